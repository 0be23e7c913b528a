// A notification is a link, and the browser and the page do with it what they do
// with links; but never with one that is a script. The scene plays the client.
import assert from 'node:assert/strict';

const bad = ['javascript:globalThis.ran=1', 'data:text/html,<h1>not the helpdesk</h1>', ' java\nscript:globalThis.ran=1', 'https://[', ''];

export default async function (s) {
  const profile = await s.profile();
  const a = await s.tab(profile, 'A', { played: '' });
  await a.live();
  await a.page.evaluate(() => {
    for (let i = 1; i <= 3; i++) client.arrives(`n${i}`, { priority: 'low', actionUrl: `/?played=#ticket${i}` });
  });
  const panel = a.part('panel');
  const link = (id) => a.row(id).getByRole('link');
  const start = a.page.url();

  // The middle button opens another tab, and leaves everything as it is.
  await a.open();
  await a.listed(['n3', 'n2', 'n1']);
  const [other] = await Promise.all([profile.waitForEvent('page'), link('n1').click({ button: 'middle' })]);
  await s.until('the other tab shows the ticket', () => other.url() === `${s.page}/?played=#ticket1`);
  await other.close();
  await a.unread(2);
  assert.ok(await panel.isVisible(), 'the panel is closed');
  await link('n2').click({ button: 'right' }); // which opens a menu, and nothing else
  await a.unread(2);
  assert.ok(await panel.isVisible(), 'the panel is closed');

  // A page that takes it over stays.
  await a.page.evaluate(() => addEventListener('peal-open', (e) => {
    e.preventDefault();
    globalThis.opened = e.detail.notification.id;
  }, { once: true }));
  await link('n2').click();
  await panel.waitFor({ state: 'hidden' });
  assert.equal(await a.page.evaluate(() => opened), 'n2');
  assert.equal(a.page.url(), start);
  await a.unread(1);

  // A link that is none is opened like any other, and leads nowhere, be it in the
  // list or in a toast.
  await a.page.evaluate((bad) => {
    addEventListener('peal-open', () => { globalThis.times = (globalThis.times ?? 0) + 1; });
    bad.forEach((actionUrl, i) => client.arrives(`bad${i}`, { priority: 'low', actionUrl }));
    client.arrives('toast', { actionUrl: bad[0] });
  }, bad);
  await a.part('toast').getByRole('link').click();
  for (let i = 0; i < bad.length; i++) {
    await a.open();
    assert.equal(await link(`bad${i}`).getAttribute('href'), '#');
    await link(`bad${i}`).click();
    await panel.waitFor({ state: 'hidden' });
  }
  assert.deepEqual(await a.page.evaluate(() => [times, globalThis.ran, location.href]), [bad.length + 1, undefined, start]);
  await a.unread(1);

  // And otherwise the link is followed.
  await a.open();
  await link('n3').click();
  await a.page.waitForURL(`${s.page}/?played=#ticket3`);
}
