// Of two users who sign in one after the other in one profile, the second never
// sees anything of the first: neither in a page of their own, nor where the page
// stays the same, nor beside a tab that was left open.
import assert from 'node:assert/strict';

const secret = 'Salary of the board';

export default async function (s) {
  const a = await s.tab(s.home, 'A', { bell: '' });
  await a.live();
  const janes = [];
  for (let i = 0; i < 3; i++) janes.push(await s.publish('jane', { title: secret, message: secret, priority: 'urgent' }));
  await a.has(janes);
  await a.unread(3);
  await a.shows('the toasts', async () => (await a.toasts()).length === 3);
  await a.open();
  await a.shows('the list', async () => await a.rows().count() === 3);

  // What the browser keeps is a place, and no text.
  const stored = await a.page.evaluate(() => [...Object.entries(localStorage), ...Object.entries(sessionStorage)]);
  assert.equal(stored.length, 1);
  assert.match(stored[0][1], /^[a-z2-7]{8}-\d+$/);
  assert.deepEqual(await s.home.cookies(), []);

  // nothing of jane's is on the screen or in what the page was told since.
  const nothing = async (tab, from) => {
    assert.ok(!(await tab.bell.evaluate((bell) => bell.shadowRoot.textContent)).includes(secret), 'the bell shows what is not for this user');
    assert.ok(!JSON.stringify(tab.heard.slice(from)).includes(secret), 'the page was told what is not for this user');
  };

  // The page stays, and the user changes: just as jane is told something, whose
  // toast has yet to get its lock when the bell is already john's.
  await a.page.evaluate(() => client.on('notification', () => signIn('john')));
  janes.push(await s.publish('jane', { title: secret, message: secret, priority: 'urgent' }));
  await a.has(janes);
  const from = a.heard.findIndex(({ data }) => data?.id === janes.at(-1)) + 1;
  await s.until('the toast has its lock', () => a.page.evaluate(async (id) => (await navigator.locks.query()).held.some(({ name }) => name.endsWith(`:${id}`)), janes.at(-1)));
  await s.until('john is connected', () => a.heard.slice(from).some(({ type, data }) => type === 'connected' && data.userId === 'john'));
  await nothing(a, from);
  await a.unread(0);
  assert.deepEqual(await a.toasts(), []);
  const john = [await s.publish('john')];
  await a.unread(1);
  await a.shows('the toast', async () => (await a.toasts()).length === 1);
  await a.open();
  await a.listed(john);
  await nothing(a, from);

  // Another page, with what jane is told meanwhile, in a tab of hers too.
  const jane = await s.tab(s.home, 'jane', { bell: '' });
  await jane.live();
  const b = await s.tab(s.home, 'B', { user: 'john', bell: '' });
  await b.live();
  await b.unread(1);
  janes.push(await s.publish('jane', { title: secret, message: secret, priority: 'urgent' }));
  await jane.hears(janes.at(-1));
  john.push(await s.publish('john', { priority: 'high' }));
  await b.has(john.slice(1));
  await b.unread(2);
  await b.shows('the toast', async () => (await b.toasts()).length === 1);
  await b.open();
  await b.listed(john.toReversed());
  await nothing(b, 0);
  await jane.unread(5);

  // A page that has the token of another hears of nothing at all.
  const d = await s.tab(await s.profile(), 'D', { user: 'john', as: 'jane', bell: '' });
  await d.is('refused');
  assert.deepEqual(d.ids, []);
  await d.unread(0);
  await nothing(d, 0);
}
