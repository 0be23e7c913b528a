// A page that is loaded again goes on where the one before it ended.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(s.home, 'A', { bell: '', keep: '' });
  await a.live();
  const ids = [await s.publish('jane'), await s.publish('jane')];
  await a.has(ids);

  // Away, and back.
  await a.page.goto('about:blank');
  await s.until('no connection', async () => await s.connections() === 0);
  for (let i = 0; i < 3; i++) ids.push(await s.publish('jane'));
  await a.go({ bell: '', keep: '' });
  await a.has(ids);
  await a.unread(5);

  // Again and again, in the middle of a stream of notifications.
  const stream = s.publishing('jane');
  for (let round = 0; round < 4; round++) {
    const from = stream.ids.length;
    await s.until('more are published', () => stream.ids.length > from + 3);
    await a.page.reload();
  }
  ids.push(...await stream.stop(), await s.publish('jane'));
  await a.hears(ids.at(-1));
  assert.deepEqual(await a.page.evaluate(() => sessionStorage.heard.trim().split(' ')), ids);
  await a.unread(ids.length);
  assert.deepEqual(a.all('gap'), []);
}
