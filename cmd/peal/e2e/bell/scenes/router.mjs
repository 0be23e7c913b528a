// A router takes the bell off the page in the very moment that a notification is
// opened: that it is read still reaches the service.

export default async function (s) {
  const a = await s.tab(await s.profile(), 'A', { bell: '' });
  const b = await s.tab(await s.profile(), 'B', { bell: '' });
  for (const tab of [a, b]) await tab.live();
  const id = await s.publish('jane', { priority: 'low' });
  for (const tab of [a, b]) await tab.unread(1);
  await a.page.evaluate(() => addEventListener('peal-open', () => document.querySelector('peal-bell').remove()));
  await a.open();
  await a.row(id).getByRole('link').click();
  await a.is('offline');
  await b.unread(0);
}
