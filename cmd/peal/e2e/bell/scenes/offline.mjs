// The line is cut, and what was published meanwhile comes when the browser says
// that it is back. To be offline in earnest, the connections that there are have
// to be cut too, and nothing but the service's end does that.
import assert from 'node:assert/strict';

export default async function (s) {
  const profile = await s.profile();
  const a = await s.tab(profile, 'A', { bell: '' });
  const b = await s.tab(profile, 'B', { bell: '' });
  for (const tab of [a, b]) await tab.live();
  const ids = [await s.publish('jane')];
  for (let round = 0; round < 2; round++) {
    for (const tab of [a, b]) await tab.hears(ids.at(-1));
    await profile.setOffline(true);
    await s.order('kill');
    for (const tab of [a, b]) await tab.is('offline');
    assert.equal(await a.part('status').textContent(), 'Offline.');
    await s.order('start');
    for (let i = 0; i < 5; i++) ids.push(await s.publish('jane'));
    await profile.setOffline(false);
    for (const tab of [a, b]) {
      await tab.live();
      await tab.has(ids);
    }
    ids.push(await s.publish('jane'));
  }
  for (const tab of [a, b]) {
    await tab.has(ids);
    await tab.unread(ids.length);
    assert.deepEqual(tab.all('gap'), []);
  }
}
