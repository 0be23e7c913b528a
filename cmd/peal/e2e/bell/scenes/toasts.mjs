// Toasts go after their time, however many come meanwhile, and nothing is left of
// those that had no room. The scene moves the clock, and plays the client.
import assert from 'node:assert/strict';

export default async function (s) {
  const profile = await s.profile();
  await profile.clock.install();
  const a = await s.tab(profile, 'A', { played: '' });
  await a.live();
  const held = () => a.page.evaluate(async () => (await navigator.locks.query()).held.map(({ name }) => name));

  // One comes every 700 ms. A toast is there for 8 s, and then ends at a tick of
  // the clock.
  const seen = new Set();
  for (let i = 0; i < 14; i++) {
    await a.page.evaluate((i) => client.arrives(`busy${i}`), i);
    await s.until('its lock is held', async () => (await held()).includes(`played:busy${i}`));
    if (i === 0) assert.equal(await a.part('toast').getAttribute('role'), 'status', 'what is not urgent must not interrupt');
    for (const text of await a.toasts()) seen.add(text.split(' ')[0]);
    await profile.clock.runFor(700);
  }
  assert.ok(seen.has('busy0'), 'the first toast was not shown');
  const left = (await a.toasts()).map((text) => text.split(' ')[0]);
  assert.ok(!left.includes('busy0'), `after 9.8 s there are still ${left}`);

  // Of many at once three have room. The others are read elsewhere before they do,
  // and their locks are let go like those of toasts that were shown.
  await a.page.evaluate(() => {
    for (let i = 0; i < 30; i++) client.arrives(`many${i}`);
  });
  await s.until('their locks are held', async () => (await held()).filter((name) => name.startsWith('played:many')).length === 30);
  await a.page.evaluate(() => client.emit('state', { data: { changed: client.inbox.map(({ id }) => ({ id, read: true })) } }));
  await a.shows('no toast', async () => (await a.toasts()).length === 0);
  await profile.clock.runFor(10_000);
  let names;
  await s.until('no lock is held', async () => (names = await held()).length === 0).catch((error) => assert.fail(`${error.message}: ${names}`));

  // While somebody points at one, the time of all stands still.
  await a.page.evaluate(() => {
    for (const id of ['first', 'second']) client.arrives(id);
  });
  await a.shows('two toasts', async () => (await a.toasts()).length === 2);
  await a.part('toast').first().hover();
  await profile.clock.runFor(30_000);
  assert.equal((await a.toasts()).length, 2);
  await a.page.mouse.move(0, 0);
  await profile.clock.runFor(10_000);
  await a.shows('no toast', async () => (await a.toasts()).length === 0);
}
