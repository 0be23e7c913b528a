// What is urgent waits until somebody looks: it pops up in the first tab that is
// shown, unless it was read meanwhile, and in no other.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(s.home, 'A', { bell: '' });
  const b = await s.tab(s.home, 'B', { bell: '' });
  const john = await s.tab(s.home, 'C', { user: 'john' }); // who hides both
  const phone = await s.tab(await s.profile(), 'D');
  for (const tab of [a, b, john, phone]) await tab.live();
  const visible = (tab) => tab.page.evaluate(() => document.visibilityState === 'visible');
  assert.deepEqual([await visible(a), await visible(b)], [false, false]);

  const ids = [];
  for (const priority of ['urgent', 'urgent', 'high', 'urgent']) ids.push(await s.publish('jane', { type: 'slaBreach', priority }));
  await phone.hears(ids.at(-1));
  await phone.page.evaluate((id) => client.read({ ids: [id] }), ids[1]);
  for (const tab of [a, b]) {
    await tab.unread(3);
    assert.deepEqual(await tab.toasts(), [], `toasts in tab ${tab.name}`);
  }

  const shown = async (tab) => (await tab.toasts()).map((text) => text.split(' ')[0]).sort();
  await a.page.bringToFront();
  await a.shows('the two that nobody has read', async () => (await shown(a)).join() === `${ids[0]},${ids[3]}`);

  // However late one comes to another tab: when what is not urgent is nobody's any
  // more, this still is.
  const held = (id) => a.page.evaluate(async (id) => (await navigator.locks.query()).held.some(({ name }) => name.endsWith(`:${id}`)), id);
  const polite = await s.publish('jane', { priority: 'high' });
  await s.until('a toast has its lock', () => held(polite));
  await s.until('it has let it go', async () => !await held(polite));
  await b.page.bringToFront();
  await s.until('B is shown', () => visible(b));
  const last = await s.publish('jane', { priority: 'urgent' });
  await b.shows('the last', async () => (await shown(b)).length > 0);
  assert.deepEqual(await shown(b), [last]);
}
