// A page of another origin imports the client from the service itself.
import assert from 'node:assert/strict';

export default async function (s) {
  assert.notEqual(new URL(s.page).origin, new URL(s.service).origin);
  const a = await s.tab(s.home, 'A', { from: `${s.service}/peal.js` });
  await a.live();
  const id = await s.publish('jane');
  await a.has([id]);
  const got = await a.page.evaluate(async () => {
    const { notifications } = await client.list();
    const { changed, unread } = await client.read({ all: true });
    return { ids: notifications.map(({ id }) => id), changed, unread };
  });
  assert.deepEqual(got, { ids: [id], changed: 1, unread: 0 });
}
