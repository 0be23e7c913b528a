// A token is taken the place of before it expires, and nobody notices: nothing
// is missed or repeated, and the bell never says that it was away.
import assert from 'node:assert/strict';

export default async function (s) {
  // Good for 10 s each: the client asks for the next one after 6 to 8.
  const a = await s.tab(s.home, 'A', { bell: '', ttl: '10s' });
  await a.live();
  const stream = s.publishing('jane');
  await s.until('the third connection', () => a.all('connected').length > 2);
  await a.live();
  await a.has(await stream.stop());

  assert.deepEqual(a.all('status').map(({ status }) => status.name), ['connecting', 'live'], 'what the user may have seen');
  assert.deepEqual(a.all('error'), []);
  assert.deepEqual(a.all('gap'), []);
  assert.deepEqual(a.all('token').map(({ why }) => why), ['start', 'expiring', 'expiring']);
  a.all('connected').reduce((before, after) => {
    assert.ok(after.data.timestamp < before.data.expiresAt, `connected again at ${after.data.timestamp}, with a token that was good until ${before.data.expiresAt}`);
    assert.equal(after.data.recovered, true);
    return after;
  });
}
