// The status page on the admin port: its numbers change by themselves, it says when
// they do not any more, keeps to its policy, is whole without a script, and axe finds
// nothing to object to; wide, on a phone, light and dark.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export default async function (s) {
  const open = async (name, options) => {
    const profile = await s.profile({ bypassCSP: false, ...options });
    const page = await profile.newPage();
    const wrong = [];
    s.tabs.push({ name, page, wrong, take() {} });
    page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) wrong.push(m.text()); });
    page.on('pageerror', (e) => wrong.push(e.message));
    page.on('request', (r) => { if (!r.url().startsWith(s.admin) && !r.url().startsWith('data:')) wrong.push(`it loads ${r.url()}`); });
    await page.goto(`${s.admin}/`);
    return { page, wrong };
  };
  const total = (page, what) => page.locator('#totals div', { hasText: what }).locator('dd').innerText();
  const shoot = async (page, name) => {
    const fits = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(fits[0] <= fits[1], `${name} is ${fits[0]} wide in ${fits[1]}`);
    await page.screenshot({ path: `${s.shots}/status-${name}.png`, fullPage: true });
  };

  const { page, wrong } = await open('wide', { viewport: { width: 1440, height: 900 } });
  await page.getByText('live', { exact: true }).waitFor();
  await page.getByText('Nothing needs attention.').waitFor();
  assert.equal(await total(page, 'Connections'), '0');
  const bell = await s.tab(await s.profile({}), 'jane', { bell: '' });
  await bell.live();
  await s.until('the connection is shown', async () => await total(page, 'Connections') !== '0');
  const publishing = s.publishing('jane');
  await s.until('deliveries are shown', async () => Number.parseFloat(await total(page, 'Delivered')) > 1);
  await s.until('the stream is shown to grow', async () => Number((await page.locator('tr', { hasText: 'PEAL_INBOX_local_0' }).locator('[data-label=Messages]').innerText()).replace(/\D/g, '')) > 5);

  // What one has marked on the page stays marked while numbers change.
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector('#streams h2')));
  const before = await page.locator('#head time').innerText();
  await s.until('newer numbers', async () => await page.locator('#head time').innerText() !== before);
  assert.equal(await page.evaluate(() => String(getSelection())), 'Streams and buckets');
  await shoot(page, 'wide');
  await publishing.stop();

  for (const [name, options] of [['phone', { viewport: { width: 390, height: 844 } }], ['dark', { viewport: { width: 1280, height: 900 }, colorScheme: 'dark' }]]) {
    const other = await open(name, options);
    await other.page.getByText('live', { exact: true }).waitFor();
    await shoot(other.page, name);
    await other.page.close();
    assert.deepEqual(other.wrong, [], name);
  }

  // axe is put in by the browser's own tools, past the policy that it would break.
  const looked = await s.profile({ bypassCSP: true, viewport: { width: 1280, height: 900 } });
  for (const colorScheme of ['light', 'dark']) {
    const seen = await looked.newPage();
    await seen.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await seen.goto(`${s.admin}/`);
    await seen.evaluate(axeSource);
    const { violations, passes } = await seen.evaluate(() => axe.run());
    assert.ok(passes.length > 5, 'axe looked at nothing');
    assert.deepEqual(violations.map(({ id, nodes }) => `${colorScheme}: ${id}: ${nodes.map(({ html }) => html).join(' ')}`), []);
    await seen.close();
  }

  const plain = await open('without a script', { javaScriptEnabled: false });
  await plain.page.locator('tr', { hasText: 'PEAL_INBOX_local_0' }).waitFor();
  await plain.page.locator('noscript').waitFor();
  await plain.page.close();

  // When the process is killed the page says that it is old.
  assert.deepEqual(wrong, []);
  await s.order('kill');
  await page.getByText(/no word for \d+ s: what is below is old/).waitFor();
  await shoot(page, 'old');
  wrong.length = 0; // the browser tells of what it can't reach
}
