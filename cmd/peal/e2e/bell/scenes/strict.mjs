// The bell needs nothing of a page's policy: what the page allows is its own
// scripts and style sheets, the service, and no text that becomes markup. Every
// scene has that policy; this one sees that it is in force, and uses everything.
import assert from 'node:assert/strict';

export default async function (s) {
  const said = [];
  const a = await s.tab(await s.profile(), 'A', { bell: '' });
  a.page.on('console', (message) => said.push(message.text()));
  await a.live();
  for (const type of ['slaBreach', 'mention', 'comment', 'assignment']) await s.publish('jane', { type });
  await a.unread(4);
  await a.shows('three toasts', async () => (await a.toasts()).length === 3);
  await a.open();
  await a.rows().first().waitFor();
  assert.equal(await a.rows().count(), 4);
  await a.bell.getByRole('button', { name: 'Mark as read', exact: true }).first().click();
  await a.unread(3);
  await a.bell.getByRole('button', { name: 'Unread', exact: true }).click();
  await a.shows('three rows', async () => await a.rows().count() === 3);
  await a.bell.getByRole('button', { name: 'Preferences' }).click();
  await a.bell.getByRole('button', { name: 'Save' }).click();
  await a.bell.getByText('Saved.').waitFor();
  await a.page.setViewportSize({ width: 390, height: 844 }); // it is placed anew
  await a.page.keyboard.press('Escape');
  assert.deepEqual(said, []);
  assert.deepEqual(a.wrong, []);

  const threw = await a.page.evaluate(() => {
    try {
      document.body.innerHTML = '<p>';
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(threw, 'TypeError');
  await s.until('the page is told of it', () => a.wrong.length > 0);
  assert.match(a.wrong.join(), /require-trusted-types-for/);
  a.wrong.length = 0;
}
