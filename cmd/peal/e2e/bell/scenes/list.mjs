// The open list and the number beside it say the same: when the list was there
// before the feed, when what was told was missed, and when more comes than
// anyone reads.
import assert from 'node:assert/strict';
import { later } from '../stage.mjs';

export default async function (s) {
  // A list that was loaded before there was a connection, which begins at the live
  // end: what came in between is in no replay.
  const profile = await s.profile();
  const wait = later();
  await profile.route('**/sse/notifications', async (route) => {
    await wait.promise;
    await route.continue();
  });
  const a = await s.tab(profile, 'A', { bell: '' });
  await a.open();
  await a.bell.getByText('All quiet').waitFor();
  const ids = [await s.publish('jane')];
  wait.resolve();
  await a.live();
  await a.unread(1);
  await a.listed(ids);
  assert.deepEqual(a.ids, []);

  // A tab that was away has not heard of its own mark. What the others tell it
  // holds that mark already. From here on the scene plays the client.
  const b = await s.tab(await s.profile(), 'B', { played: '' });
  await b.live();
  await b.page.evaluate(() => {
    client.arrives('n1', { priority: 'low' });
    client.arrives('n2', { priority: 'low' });
  });
  await b.open();
  await b.listed(['n2', 'n1']);
  await b.row('n1').getByRole('button', { name: 'Mark as read', exact: true }).click();
  await b.unread(1);
  await b.page.evaluate(() => {
    client.inbox[1].read = true;
    client.counts(1);
    client.emit('refetch');
  });
  await b.shows('the list of then', () => b.page.evaluate(() => client.lists === 2));
  await b.unread(1);

  // Of the unread ones only: what another device marks as unread is one of them.
  await b.page.evaluate(() => {
    for (const n of client.inbox) n.read = true;
    client.counts(0);
  });
  await b.bell.getByRole('button', { name: 'Unread', exact: true }).click();
  await b.bell.getByText('Everything is read').waitFor();
  await b.page.evaluate(() => {
    client.inbox[0].read = false;
    client.emit('state', { data: { changed: [{ id: 'n2', read: false }] } });
    client.counts(1);
  });
  await b.listed(['n2']);
  await b.bell.getByRole('button', { name: 'All', exact: true }).click();
  await b.listed(['n2', 'n1']);
  await b.page.evaluate(() => { client.lists = 2; });

  // As many come as the open list takes, and one more: the newest are loaded.
  await b.page.evaluate(() => {
    for (let i = 0; i < 1_000; i++) client.arrives(`more${i}`, { priority: 'low' });
  });
  await b.shows('the newest only', async () => await b.page.evaluate(() => client.lists === 3) && await b.rows().count() === 200);
  assert.match(await b.rows().first().textContent(), /more999 /);
  await b.unread(1_001);
}
