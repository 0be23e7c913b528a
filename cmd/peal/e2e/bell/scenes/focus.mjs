// What has the focus may go: then something near it has the focus, and never the
// page as a whole. The scene plays the client.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(await s.profile(), 'A', { played: '' });
  await a.live();
  const { keyboard } = a.page;
  const panel = a.part('panel');
  const focus = () => a.page.evaluate(() => {
    const inner = document.activeElement.shadowRoot?.activeElement;
    return inner ? inner.getAttribute('part') ?? (inner.title || inner.textContent) : document.activeElement.localName;
  });
  const has = (want) => a.shows(`the focus on ${want}`, async () => await focus() === want);

  // To try again takes the button away that says so.
  await a.page.evaluate(() => {
    client.works = client.list;
    client.list = () => Promise.reject(new Error());
  });
  await a.open();
  await a.bell.getByRole('button', { name: 'Try again' }).focus();
  await a.page.evaluate(() => { client.list = client.works; });
  await keyboard.press('Enter');
  await a.bell.getByText('All quiet').waitFor();
  await has('panel');

  // The button of the bell belongs to the open panel.
  await keyboard.press('Shift+Tab');
  await has('button');
  assert.ok(await panel.isVisible(), 'the panel is closed');
  await keyboard.press('Escape');
  await panel.waitFor({ state: 'hidden' });
  await has('button');

  // The form is filled in anew where others have saved before: by the button, and
  // by Enter in a field.
  await a.page.evaluate(() => {
    client.setPreferences = async () => { throw Object.assign(new Error(), { status: 412 }); };
  });
  await a.open();
  await a.bell.getByRole('button', { name: 'Preferences' }).click();
  for (const control of [a.bell.getByRole('button', { name: 'Save' }), a.bell.getByLabel('Comment')]) {
    await control.focus();
    await keyboard.press('Enter');
    await a.bell.getByText('Not saved').waitFor();
    await has('Save');
    await a.bell.getByRole('button', { name: 'Preferences' }).click();
    await a.bell.getByRole('button', { name: 'Preferences' }).click();
  }
  await keyboard.press('Escape');

  // A toast that is opened goes, and the next one is next.
  await a.page.evaluate(() => {
    addEventListener('peal-open', (e) => e.preventDefault());
    for (const id of ['n1', 'n2']) client.arrives(id, { priority: 'urgent' });
  });
  await a.shows('two toasts', async () => (await a.toasts()).length === 2);
  await a.part('toast').getByRole('link').first().focus();
  await keyboard.press('Enter');
  await a.shows('one toast', async () => (await a.toasts()).length === 1);
  await has('Close');
  await a.part('toast').getByRole('link').focus();
  await keyboard.press('Enter');
  await has('button');
}
