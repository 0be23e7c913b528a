// The bell can be used by keyboard alone, and the focus is never lost.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(await s.profile(), 'A', { bell: '' });
  await a.live();
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push(await s.publish('jane', { priority: 'low' })); // which makes no toast
  await a.unread(3);
  const { keyboard } = a.page;

  // focus is on what: an element of the page, or a part of the bell, with the
  // notification whose row it is in.
  const focus = () => a.page.evaluate(() => {
    const { activeElement: outer } = document;
    const inner = outer.shadowRoot?.activeElement;
    if (!inner) return outer.id || outer.localName;
    const row = inner.closest('li')?.querySelector('[part~="title"]').textContent.split(' ')[0];
    return row ? `${row} ${inner.localName}` : inner.getAttribute('part') ?? (inner.title || inner.textContent);
  });
  const press = async (key, want) => {
    await keyboard.press(key);
    await a.shows(`the focus on ${want} after ${key}`, async () => await focus() === want);
  };

  await press('Tab', 'a');
  await press('Tab', 'button');
  assert.equal(await a.part('button').getAttribute('aria-label'), 'Notifications, 3 unread');
  assert.equal(await a.part('button').getAttribute('aria-expanded'), 'false');
  await press('Enter', 'panel');
  assert.equal(await a.part('button').getAttribute('aria-expanded'), 'true');
  await a.listed(ids.toReversed());
  await press('ArrowDown', `${ids[2]} a`);
  await press('ArrowDown', `${ids[1]} a`);
  await press('ArrowDown', `${ids[0]} a`);
  await press('ArrowDown', `${ids[0]} a`);
  await press('Home', `${ids[2]} a`);
  await press('End', `${ids[0]} a`);
  await press('ArrowUp', `${ids[1]} a`);
  await press('m', `${ids[1]} a`);
  await a.unread(2);
  await press('m', `${ids[1]} a`);
  await a.unread(3);
  await press('Tab', `${ids[1]} button`); // marks it too
  await press('Enter', `${ids[1]} button`);
  await a.unread(2);
  await press('Escape', 'button');
  await a.part('panel').waitFor({ state: 'hidden' });

  // Through all that the panel has, and out at its end.
  await press('Enter', 'panel');
  for (const want of ['Preferences', 'Close', 'All', 'Unread', 'Mark all read', `${ids[1]} a`]) await press('Tab', want);
  await press('Shift+Tab', 'Mark all read');
  await press('Enter', 'Mark all read');
  await a.unread(0);
  await press('Escape', 'button');
  await press('Tab', 'out');

  // A notification is opened with Enter, which closes the panel.
  await press('Shift+Tab', 'button');
  await press('Enter', 'panel');
  await press('ArrowDown', `${ids[2]} a`);
  await press('Enter', 'button');
  assert.deepEqual(a.all('open').map(({ id }) => id), [ids[2]]);

  // An urgent toast stays until it is dismissed.
  const urgent = await s.publish('jane', { type: 'slaBreach', priority: 'urgent' });
  await a.shows('the toast', async () => (await a.toasts()).length === 1);
  assert.equal(await a.part('toast').getAttribute('role'), 'alert');
  await a.part('toast').getByRole('button').focus();
  await press('Escape', 'button');
  assert.deepEqual(await a.toasts(), []);
  await a.has([...ids, urgent]);
}
