// The bell fits the screen it is on, narrow and wide, light and dark. What it looks
// like is left for a person to see: -args -shots FOLDER.
import assert from 'node:assert/strict';

const screens = { narrow: { width: 390, height: 844 }, wide: { width: 1280, height: 900 } };

const told = [
  ['slaBreach', 'urgent', 'INC-2024-001240', 'SLA breached on the ERP outage', 'The resolution target of 13:00 was missed by 12 minutes.'],
  ['mention', 'high', 'INC-2024-001234', 'VPN Connection Issue', 'Jane Smith mentioned you: can you have a look at the certificate of the second gateway, which seems to have expired over the weekend?'],
  ['comment', 'medium', 'REQ-2024-000077', 'New laptop for the new colleague in the Rotterdam office, with two screens and a docking station', 'Priya Natarajan commented.'],
  ['merge', 'low', 'INC-2024-001199', 'Printer on the third floor', 'Merged into INC-2024-001200.'],
  ['approval', 'high', 'CHG-2024-000012', 'Firewall rule for the partner network', 'Your approval is asked for.'],
  ['resolution', 'medium', 'INC-2024-001120', 'Averylongwordthathasnoplacetobreakandgoesonandonandonuntiltheendofthelineandbeyond', 'Resolved.'],
];

export default async function (s) {
  for (const [screen, viewport] of Object.entries(screens)) {
    const profile = await s.profile({ viewport, reducedMotion: 'reduce' });
    const user = `jane-${screen}`;
    const a = await s.tab(profile, screen, { bell: '', user });
    await a.live();

    // shoot takes a picture in each scheme, of what must be on the screen.
    const shoot = async (page, what, ...parts) => {
      for (const part of parts) {
        const box = await part.boundingBox();
        assert.ok(box && box.x >= 0 && box.y >= 0 && box.x + box.width <= viewport.width && box.y + box.height <= viewport.height,
          `${what}, ${screen}: ${JSON.stringify(box)} is not on a screen of ${viewport.width} by ${viewport.height}`);
      }
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(over <= 0, `${what}, ${screen}: the page is ${over} pixels too wide`);
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await page.screenshot({ path: `${s.shots}/${screen}-${colorScheme}-${what}.png` });
      }
    };

    await a.open();
    await a.bell.getByText('All quiet').waitFor();
    await shoot(a.page, 'empty', a.part('panel'));
    await a.page.keyboard.press('Escape');
    for (const [type, priority, ticketNumber, title, message] of told) await s.publish(user, { type, priority, ticketNumber, ticketId: ticketNumber, title, message });
    await a.unread(told.length);
    await a.shows('three toasts', async () => (await a.toasts()).length === 3);
    await shoot(a.page, 'toasts', a.part('toasts'), a.part('button'));
    await a.open();
    await a.shows('the list', async () => await a.rows().count() === told.length);
    await a.rows().nth(3).getByRole('button', { name: 'Mark as read' }).click();
    await a.page.mouse.move(0, 0);
    await shoot(a.page, 'open', a.part('panel'));
    await a.bell.getByRole('button', { name: 'Preferences' }).click();
    await a.bell.getByLabel('Quiet hours').check();
    await shoot(a.page, 'preferences', a.part('panel'));

    const demo = await profile.newPage();
    s.tabs.push({ name: `demo-${screen}`, page: demo, wrong: [], take() {} });
    await demo.goto(`${s.service}/demo/`);
    await demo.getByText('Live').nth(1).waitFor();
    await shoot(demo, 'demo');
  }
}
