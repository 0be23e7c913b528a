// What is saved is saved once, at any length that the service takes, and who
// saves is told how it ended.
import assert from 'node:assert/strict';
import { later } from '../stage.mjs';

export default async function (s) {
  const profile = await s.profile();
  const a = await s.tab(profile, 'A', { bell: '' });
  await a.live();
  const form = async () => {
    await a.bell.getByRole('button', { name: 'Preferences' }).click();
    await a.bell.getByRole('button', { name: 'Save' }).waitFor();
  };
  const save = a.bell.getByRole('button', { name: 'Save' });
  const methods = [];
  a.page.on('request', (request) => {
    if (request.url().endsWith('/user/preference')) methods.push(request.method());
  });

  // A second click while the first is under way asks for nothing more.
  const gate = later();
  await a.page.route('**/user/preference', async (route) => {
    if (route.request().method() === 'PUT') await gate.promise;
    await route.continue();
  });
  await a.open();
  await form();
  methods.length = 0;
  await a.bell.getByLabel('Comment').uncheck();
  await save.dblclick();
  await a.page.evaluate(() => client.count()); // what the clicks have asked for was asked for before
  gate.resolve();
  await a.bell.getByText('Saved.').waitFor();
  assert.deepEqual(methods, ['PUT']);
  await a.page.unroute('**/user/preference');

  // The form shows what is the user's own, and writes what was touched. Without
  // quiet hours is not the same as with the tenant's, nor is all priorities.
  const stored = async () => {
    const { types, minPriority, quietHours } = await a.page.evaluate(async () => (await client.preferences()).value);
    return { comment: types?.comment, minPriority, hours: quietHours && [quietHours.from, quietHours.to, quietHours.timeZone, Boolean(quietHours.exceptUrgent)] };
  };
  const quiet = a.bell.getByLabel('Quiet hours');
  const least = a.bell.getByLabel('With a priority of at least');
  const saved = async (change, want) => {
    await form();
    await change();
    await save.click();
    await a.bell.getByText('Saved.').waitFor();
    assert.deepEqual(await stored(), want);
  };
  await a.page.evaluate(() => client.setPreferences({ quietHours: { from: '21:00', to: '21:00', timeZone: 'UTC' } }));
  await saved(async () => {
    assert.ok(!await quiet.isChecked(), 'from and to the same is shown as quiet hours');
    assert.equal(await least.inputValue(), '');
    await a.bell.getByLabel('Comment').uncheck();
  }, { comment: false, minPriority: undefined, hours: ['21:00', '21:00', 'UTC', false] });
  await saved(async () => {
    await least.selectOption('Low');
    await quiet.check();
    await a.bell.getByLabel('Time zone').selectOption('Europe/Berlin');
  }, { comment: false, minPriority: 'low', hours: ['22:00', '07:00', 'Europe/Berlin', false] });
  await saved(async () => {
    assert.equal(await a.bell.getByLabel('Time zone').inputValue(), 'Europe/Berlin');
    await quiet.uncheck();
    await least.selectOption('As set by your organisation');
    await a.bell.getByLabel('Comment').check();
  }, { comment: true, minPriority: undefined, hours: ['22:00', '22:00', 'Europe/Berlin', false] });

  // Others have saved meanwhile, and then there is no network to learn what.
  await form();
  await a.page.evaluate(async () => {
    const { value, etag } = await client.preferences();
    await client.setPreferences({ ...value, minPriority: 'low' }, etag);
  });
  await a.page.route('**/user/preference', (route) => route.request().method() === 'PUT' ? route.continue() : route.abort());
  const refused = a.page.waitForResponse((response) => response.request().method() === 'PUT');
  await save.click();
  assert.equal((await refused).status(), 412);
  await a.bell.getByText('That did not work.').waitFor();
  assert.ok(await save.isVisible(), 'the form is gone');
  await a.page.unroute('**/user/preference');
  await save.click();
  await a.bell.getByText('Not saved').waitFor();

  // The longest preferences, which are longer than what browsers let outlive a
  // page.
  const muted = Array.from({ length: 1_000 }, (_, i) => String(i).padStart(128, '0'));
  await a.page.evaluate(async (mutedTickets) => {
    await client.setPreferences({ mutedTickets });
  }, muted);
  assert.deepEqual(await a.page.evaluate(async () => (await client.preferences()).value.mutedTickets), muted);

  // Three of the longest marks at once, of 500 ids each with one that is there.
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push(await s.publish('jane', { priority: 'low' }));
  await a.unread(3);
  const changed = await a.page.evaluate((ids) => Promise.all(ids.map(async (id) => {
    const others = Array.from({ length: 499 }, (_, i) => `${id}-${i}`.padStart(42, 'n'));
    return (await client.read({ ids: [id, ...others] })).changed;
  })), ids);
  assert.deepEqual(changed, [1, 1, 1]);
  await a.unread(0);
}
