// The bell is an element like any other: it may be set up before it is defined,
// set again to what it is, moved, removed and brought back, and styled.
import assert from 'node:assert/strict';

export default async function (s) {
  // What was set before the element is defined counts.
  const a = await s.tab(await s.profile(), 'A', { bare: '', ttl: '10s' });
  await a.page.evaluate(async () => {
    for (const [name, value] of Object.entries(attributes)) bell.setAttribute(name, value);
    Object.assign(bell, { hidden: false, open: true, messages: { title: 'Mitteilungen' }, token: (why) => token('jane', why) });
    await import('/peal-bell.js');
    watch(bell.client);
  });
  await a.live();
  const panel = a.part('panel');
  await panel.waitFor();
  assert.equal(await a.part('heading').textContent(), 'Mitteilungen');
  const ids = [await s.publish('jane'), await s.publish('jane', { type: 'slaBreach', priority: 'urgent' })];
  await a.listed(ids.toReversed());
  const toast = a.part('toasts');
  await toast.waitFor();

  // What is as it was changes nothing, nor does another callback, which is asked
  // for the next token.
  await a.page.evaluate(() => {
    for (const [name, value] of Object.entries(attributes)) bell.setAttribute(name, value);
    bell.client = null;
    bell.messages = bell.messages;
    bell.token = bell.token;
    bell.token = (why) => {
      globalThis.asked = why;
      return token('jane', why);
    };
  });
  assert.ok(await a.page.evaluate(() => client === bell.client), 'there is another client');
  assert.ok(await panel.isVisible(), 'the panel is closed');
  await s.until('the other callback is asked', () => a.page.evaluate(() => globalThis.asked === 'expiring'));
  await s.until('one connection', async () => await s.connections() === 1);
  assert.ok(await panel.isVisible(), 'the panel is closed');

  // Moved, it goes on, with all that is open.
  await a.page.evaluate(() => document.querySelector('main').append(bell));
  assert.ok(await a.page.evaluate(() => client === bell.client && bell.open), 'it has begun anew');
  assert.ok(await panel.isVisible(), 'the panel is closed');
  assert.ok(await toast.isVisible(), 'the toast is gone');

  // Nothing of how the page writes comes in, but for what it says to the bell.
  const style = (part, names) => a.part(part).first().evaluate((element, names) => names.map((name) => getComputedStyle(element)[name]), names);
  const texts = ['whiteSpace', 'textTransform', 'textAlign', 'letterSpacing', 'wordSpacing', 'textIndent', 'fontStyle'];
  await a.page.evaluate(() => Object.assign(document.body.style, {
    whiteSpace: 'pre', textTransform: 'uppercase', textAlign: 'center', letterSpacing: '9px', wordSpacing: '9px', textIndent: '9px', fontStyle: 'italic', cursor: 'help',
  }));
  for (const part of ['heading', 'toasts']) assert.deepEqual(await style(part, texts), ['normal', 'none', 'start', 'normal', '0px', '0px', 'normal'], part);
  assert.deepEqual(await style('heading', ['cursor']), ['auto']);
  for (const [theme, colour] of [['light', 'rgb(255, 255, 255)'], ['dark', 'rgb(24, 25, 27)']]) {
    await a.page.evaluate((theme) => bell.setAttribute('theme', theme), theme);
    for (const part of ['panel', 'toast']) assert.deepEqual(await style(part, ['backgroundColor']), [colour], `${part}, ${theme}`);
  }
  await a.page.evaluate(() => {
    bell.style.setProperty('--peal-accent', 'rgb(1, 2, 3)');
    bell.style.setProperty('--peal-font', 'monospace');
  });
  assert.deepEqual(await style('title', ['fontFamily']), ['monospace']);
  assert.equal(await a.rows('.unread').locator('.dot').first().evaluate((dot) => getComputedStyle(dot).borderColor), 'rgb(1, 2, 3)');

  // Other texts, at once.
  await a.page.evaluate(() => { bell.messages = { title: 'Meldingen', unread: { other: '{n} ongelezen' } }; });
  assert.equal(await a.part('button').getAttribute('aria-label'), 'Meldingen, 2 ongelezen');
  await a.open();
  assert.equal(await a.part('heading').textContent(), 'Meldingen');
  await a.listed(ids.toReversed());

  // With an address that is none it shows nothing of the client before.
  await a.page.evaluate(() => bell.setAttribute('url', 'https://['));
  assert.match(a.wrong.splice(0).join(), /Invalid URL/);
  assert.deepEqual(await a.page.evaluate(() => [bell.client, bell.unread, bell.shadowRoot.querySelectorAll('li, [part="toast"]').length]), [undefined, -1, 0]);
  await s.until('no connection', async () => await s.connections() === 0);
  await a.page.evaluate(() => {
    bell.setAttribute('url', attributes.url);
    watch(bell.client);
  });
  await a.unread(2);

  // Its own client goes with it, and another comes with it.
  await a.open();
  await a.page.evaluate(() => bell.remove());
  await a.is('offline');
  await s.until('no connection', async () => await s.connections() === 0);
  assert.deepEqual(await a.page.evaluate(() => [bell.client, bell.open]), [undefined, false]);
  await a.page.evaluate(() => {
    document.querySelector('header').append(bell);
    watch(bell.client);
  });
  await a.live();
  await a.unread(2);
  await a.open();
  await a.listed(ids.toReversed());
  await s.until('one connection', async () => await s.connections() === 1);

  // A client that it was given stays, and is the same if it is given again. One
  // whose inbox has dropped unread ones has more than it can say.
  const b = await s.tab(await s.profile(), 'B', { played: '' });
  await b.live();
  await b.page.evaluate(() => {
    client.arrives('n1', { priority: 'low' });
    client.count = async () => ({ truncated: true });
    client.close = () => { client.closed = true; };
    client.emit('refetch');
  });
  await b.shows('1+', async () => await b.part('badge').textContent() === '1+');
  assert.equal(await b.part('button').getAttribute('aria-label'), 'Notifications, more than 1 unread');
  await b.open();
  await b.page.evaluate(() => {
    const bell = document.querySelector('peal-bell');
    bell.client = client;
  });
  assert.ok(await b.part('panel').isVisible(), 'the panel is closed');
  await b.page.evaluate(() => document.querySelector('peal-bell').remove());
  assert.ok(!await b.page.evaluate(() => client.closed), 'it has closed a client that is not its own');
}
