// axe finds nothing to object to: in the bell, however it stands, and in the demo
// page with its two devices; light and dark.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export default async function (s) {
  const profile = await s.profile({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' });
  await profile.addInitScript(axeSource); // in frames too
  const found = [];

  // clean looks at a page in both schemes.
  const clean = async (page, what) => {
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      const { violations, passes } = await page.evaluate(() => axe.run());
      assert.ok(passes.length > 5, `axe looked at nothing: ${what}`);
      s.note(`axe: ${what}, ${colorScheme}: ${passes.length} passed, ${violations.length} broken`);
      for (const { id, help, nodes } of violations) {
        for (const { target, failureSummary } of nodes) found.push(`${what}, ${colorScheme}: ${id}: ${help}: ${JSON.stringify(target)}: ${failureSummary}`);
      }
    }
  };

  const a = await s.tab(profile, 'A', { bell: '' });
  await a.live();
  await clean(a.page, 'closed, empty');
  await a.open();
  await a.bell.getByText('All quiet').waitFor();
  await clean(a.page, 'open, empty');
  await a.page.keyboard.press('Escape');
  for (const [type, priority] of [['slaBreach', 'urgent'], ['mention', 'high'], ['comment', 'medium'], ['merge', 'low'], ['assignment', 'high']]) await s.publish('jane', { type, priority });
  await a.unread(5);
  await a.shows('three toasts', async () => (await a.toasts()).length === 3);
  await clean(a.page, 'toasts');
  await a.open();
  await a.shows('the list', async () => await a.rows().count() === 5);
  await a.bell.getByRole('button', { name: 'Mark as read', exact: true }).nth(1).click();
  await a.bell.getByRole('button', { name: /^Mute/ }).nth(2).click();
  await a.shows('a ticket that is muted', async () => await a.rows('.muted').count() > 0);
  await clean(a.page, 'open');
  await a.bell.getByRole('button', { name: 'Unread', exact: true }).click();
  await a.shows('the unread ones', async () => await a.rows().count() === 4);
  await clean(a.page, 'unread only');
  await a.bell.getByRole('button', { name: 'Mark all read' }).click();
  await a.bell.getByText('Everything is read').waitFor();
  await clean(a.page, 'all read');
  await a.bell.getByRole('button', { name: 'Preferences' }).click();
  await a.bell.getByLabel('Quiet hours').check();
  await clean(a.page, 'preferences');
  await s.order('kill');
  await a.is('waiting');
  await clean(a.page, 'reconnecting');
  await s.order('start');
  await a.live();

  const demo = await profile.newPage();
  s.tabs.push({ name: 'demo', page: demo, wrong: [], take() {} });
  await demo.goto(`${s.service}/demo/`);
  await demo.getByText('Live').nth(1).waitFor();
  await clean(demo, 'demo');
  for (const frame of demo.frames().slice(1)) await frame.locator('peal-bell [part="button"]').click();
  for (const frame of demo.frames().slice(1)) await frame.getByText('n0005').waitFor();
  await clean(demo, 'demo, open');
  for (const summary of await demo.locator('summary').all()) await summary.click();
  await clean(demo, 'demo, unfolded');
  assert.deepEqual(found, []);
}
