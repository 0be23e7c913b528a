// A page that is sandboxed without an origin has the right to no locks, though it
// may ask for them: its toasts are shown all the same. The service serves no such
// page, so the scene plays the client.
import assert from 'node:assert/strict';

export default async function (s) {
  const profile = await s.profile();
  await profile.route(`${s.page}/**`, async (route) => {
    const response = await route.fetch();
    const headers = response.headers();
    headers['content-security-policy'] += '; sandbox allow-scripts';
    headers['access-control-allow-origin'] = '*'; // or it could not even have its own scripts
    await route.fulfill({ response, headers });
  });
  const a = await s.tab(profile, 'A', { played: '' });
  await a.live();
  const refused = await a.page.evaluate(() => navigator.locks.request('mine', () => '').catch(({ name }) => name));
  assert.equal(refused, 'SecurityError');

  await a.page.evaluate(() => client.arrives('n1'));
  await a.shows('the toast', async () => (await a.toasts()).length === 1);
  await a.unread(1);
}
