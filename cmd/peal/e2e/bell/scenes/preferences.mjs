// A type that is switched off in the bell makes no notification any more, within
// two seconds, and the others go on.
import assert from 'node:assert/strict';

export default async function (s) {
  const a = await s.tab(await s.profile(), 'A', { bell: '' });
  const b = await s.tab(await s.profile(), 'B', { bell: '' });
  for (const tab of [a, b]) await tab.live();
  const before = [await s.publish('jane', { type: 'comment' }), await s.publish('jane', { type: 'mention' })];
  await a.has(before);

  const preferences = async (tab) => {
    await tab.open();
    await tab.bell.getByRole('button', { name: 'Preferences' }).click();
  };
  await preferences(a);
  await a.bell.getByLabel('Comment').uncheck();
  await a.bell.getByRole('button', { name: 'Save' }).click();
  await a.bell.getByText('Saved.').waitFor();
  const saved = Date.now();

  // Both are published all the while. What is published later than two seconds
  // after it was saved counts.
  const silent = [];
  const after = [];
  while (silent.length < 5) {
    const late = Date.now() >= saved + 2000;
    const comment = await s.publish('jane', { type: 'comment' });
    if (late) silent.push(comment);
    after.push(await s.publish('jane', { type: 'mention' }));
  }
  for (const tab of [a, b]) {
    await tab.hears(after.at(-1));
    assert.deepEqual(tab.ids.filter((id) => silent.includes(id)), [], 'what was switched off');
    assert.deepEqual(tab.ids.filter((id) => after.includes(id)), after, 'what was not');
  }
  const { notifications } = await b.page.evaluate(() => client.list({ type: ['comment'], limit: 200 }));
  assert.deepEqual(notifications.map(({ id }) => id).filter((id) => silent.includes(id)), []);

  // The other profile finds it as it was left, and takes it back.
  await preferences(b);
  assert.equal(await b.bell.getByLabel('Comment').isChecked(), false);
  await b.bell.getByLabel('Comment').check();
  await b.bell.getByRole('button', { name: 'Save' }).click();
  await b.bell.getByText('Saved.').waitFor();
  await s.until('a comment comes', async () => {
    const id = await s.publish('jane', { type: 'comment' });
    await a.hears(await s.publish('jane'));
    return a.ids.includes(id);
  });
}
