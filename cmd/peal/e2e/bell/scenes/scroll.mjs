// A list that is longer than a page goes on where it is scrolled to, to its end,
// without a hole or a repeat, also while more comes on top.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(await s.profile(), 'A', { bell: '' });
  await a.live();
  const ids = [];
  for (let i = 0; i < 130; i++) ids.push(await s.publish('jane', { priority: 'low' }));
  const asked = [];
  a.page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.pathname.endsWith('/list')) asked.push(url.searchParams.has('before'));
  });
  await a.open();
  await a.listed(ids.slice(80).toReversed());
  assert.deepEqual(asked, [false], 'what nobody scrolls to is not asked for');

  const end = () => a.bell.locator('.scroll').evaluate((scroll) => scroll.scrollTo(0, scroll.scrollHeight));
  await end();
  await a.listed(ids.slice(30).toReversed());
  ids.push(await s.publish('jane', { priority: 'low' }));
  await a.listed(ids.slice(30).toReversed());
  await end();
  await a.listed(ids.toReversed());
  await end();
  assert.deepEqual(asked, [false, true, true]);
  assert.ok(await a.bell.locator('.end').isHidden(), 'it looks as if there were more');
  await a.row(ids[0]).getByRole('button', { name: 'Mark as read', exact: true }).click();
  await a.unread(130);
}
