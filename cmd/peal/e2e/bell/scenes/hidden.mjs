// A tab behind others hears as well as the one in front of it. One that is
// stopped, even while it has the connection of all, costs the others a moment
// and nothing else, and catches up when it goes on.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(s.home, 'A', { bell: '' });
  await a.live();
  const b = await s.tab(s.home, 'B', { bell: '' });
  await b.live();
  const visible = (tab) => tab.page.evaluate(() => document.visibilityState === 'visible');
  // front shows a tab of the window, which hides the one that was shown.
  const front = async (tab, before) => {
    await tab.page.bringToFront();
    await s.until(`${tab.name} is the one that is shown`, async () => await visible(tab) && !await visible(before));
  };
  assert.deepEqual([await visible(a), await visible(b)], [false, true]);

  const ids = [await s.publish('jane')];
  for (const tab of [a, b]) await tab.has(ids);
  await front(a, b);
  ids.push(await s.publish('jane'));
  for (const tab of [a, b]) await tab.has(ids);

  // A, which leads, is stopped behind another. Chromium itself stops no tab that
  // holds a lock.
  const c = await s.tab(s.home, 'C', { user: 'john' });
  const devtools = await s.home.newCDPSession(a.page);
  await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
  for (let i = 0; i < 3; i++) ids.push(await s.publish('jane'));
  await front(b, c); // and so it looks after who leads
  await b.has(ids);
  await b.unread(ids.length);

  // It goes on, and is as the others are.
  await devtools.send('Page.setWebLifecycleState', { state: 'active' });
  await front(a, b);
  ids.push(await s.publish('jane'));
  for (const tab of [a, b]) {
    await tab.hears(ids.at(-1));
    await tab.unread(ids.length);
    await tab.page.bringToFront();
    await tab.open();
    await tab.listed(ids.toReversed());
    assert.equal(new Set(tab.ids).size, tab.ids.length, `twice in tab ${tab.name}: ${tab.ids}`);
  }
  assert.deepEqual(b.ids, ids);
  await s.until('one connection of each user', async () => await s.connections() === 2);
}
