// What is read in one profile is read in the other: one, none again, and all.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(await s.profile(), 'A', { bell: '' });
  const b = await s.tab(await s.profile(), 'B', { bell: '' });
  const ids = [];
  for (const tab of [a, b]) await tab.live();
  for (let i = 0; i < 3; i++) ids.push(await s.publish('jane'));
  for (const tab of [a, b]) {
    await tab.open();
    await tab.listed(ids.toReversed());
    await tab.unread(3);
  }
  const unreadRows = (tab, want) => tab.shows(`unread ${want}`, async () => {
    const texts = await tab.rows('.unread').locator('[part~="title"]').allTextContents();
    return texts.map((text) => text.split(' ')[0]).join() === want;
  });
  const press = (tab, id, name) => tab.row(id).getByRole('button', { name, exact: true }).click();

  await press(a, ids[1], 'Mark as read');
  for (const tab of [a, b]) {
    await unreadRows(tab, `${ids[2]},${ids[0]}`);
    await tab.unread(2);
  }
  await press(b, ids[1], 'Mark as unread');
  for (const tab of [a, b]) {
    await unreadRows(tab, ids.toReversed().join());
    await tab.unread(3);
  }
  await a.bell.getByRole('button', { name: 'Mark all read' }).click();
  for (const tab of [a, b]) {
    await unreadRows(tab, '');
    await tab.unread(0);
  }
  const { unread: counted, total } = await b.page.evaluate(() => client.count());
  assert.deepEqual({ counted, total }, { counted: 0, total: 3 });

  // What comes after that is unread again, in both.
  ids.push(await s.publish('jane'));
  for (const tab of [a, b]) {
    await unreadRows(tab, ids[3]);
    await tab.unread(1);
    await tab.has(ids);
  }
}
