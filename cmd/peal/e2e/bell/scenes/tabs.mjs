// All tabs of a browser hear of everything over one connection, whichever of
// them is closed; a toast is shown in the one that is looked at.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(s.home, 'A', { bell: '' });
  await a.live();
  const b = await s.tab(s.home, 'B', { bell: '' });
  await b.live();
  await s.until('one connection', async () => await s.connections() === 1);

  const ids = [await s.publish('jane')];
  for (const tab of [a, b]) {
    await tab.has(ids);
    await tab.unread(1);
  }
  await b.shows('the toast', async () => (await b.toasts()).length === 1);
  assert.deepEqual(await a.toasts(), [], 'toasts in the tab behind');
  assert.equal(await s.connections(), 1);

  // The first leads. It is closed in the middle of a stream of notifications.
  const stream = s.publishing('jane');
  await s.until('some are published', () => stream.ids.length > 5);
  await a.page.close();
  const gone = a.ids;
  const from = stream.ids.length;
  await b.hears(stream.ids[from - 1]);
  await s.until('more are published', () => stream.ids.length > from + 5);
  ids.push(...await stream.stop());
  await b.has(ids);
  assert.deepEqual(gone, ids.slice(0, gone.length), 'what came to the tab that was closed');
  await s.until('one connection', async () => await s.connections() === 1);
  await b.unread(ids.length);

  // Who comes later knows as much at once, and from then on hears the same.
  const c = await s.tab(s.home, 'C', { bell: '' });
  await c.live();
  await c.unread(ids.length);
  const last = await s.publish('jane');
  await b.has([...ids, last]);
  await c.has([last]);
  await c.open();
  await c.listed([...ids, last].reverse().slice(0, 50));
  assert.equal(await s.connections(), 1);
}
