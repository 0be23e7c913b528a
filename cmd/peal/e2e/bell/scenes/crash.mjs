// The service is killed and started again while notifications are published.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(s.home, 'A', { bell: '' });
  const b = await s.tab(s.home, 'B');
  const other = await s.tab(await s.profile(), 'C', { bell: '' });
  const all = [a, b, other];
  for (const tab of all) await tab.live();

  const stream = s.publishing('jane');
  for (let round = 0; round < 2; round++) {
    const from = stream.ids.length;
    await s.until('some are published', () => stream.ids.length > from + 5);
    await s.order('kill');
    for (const tab of all) await tab.is('waiting');
    await s.order('start');
    for (const tab of all) await tab.live();
  }
  const before = stream.ids.length;
  await s.until('more are published', () => stream.ids.length > before + 5);
  const ids = await stream.stop();
  for (const tab of all) {
    await tab.has(ids);
    assert.deepEqual(tab.all('gap'), [], `gaps in tab ${tab.name}`);
  }
  for (const tab of [a, other]) await tab.unread(ids.length);
  await s.until('one connection for each profile', async () => await s.connections() === 2);
}
