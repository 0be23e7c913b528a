// What a scene plays with: a browser with its profiles and tabs, and the
// service, which is published to, killed and started again.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const patience = 60_000; // ms that bound every wait for something that has to happen
const pace = 50; // ms between two notifications, two tries of one, and two looks

// As any user, root too: it only ever sees pages of this test, so it goes without
// a sandbox.
const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-proxy-server',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars', '--remote-debugging-port=0'];

export class Stage {
  trace = [];
  tabs = [];
  #began = Date.now();
  #changed = later(); // resolved and replaced when something has happened
  #published = 0; // numbers ids
  #answers; // to orders: lines

  // open starts the browser. It is not started by Playwright, which would have
  // every tab believe that it is the one looked at.
  static async open(props) {
    const stage = new Stage();
    Object.assign(stage, props);
    stage.#answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    const child = spawn(props.browser, [...flags, `--user-data-dir=${props.folder}`, 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'] });
    const address = await new Promise((resolve, reject) => {
      let said = '';
      child.stderr.on('data', (text) => {
        said += text;
        const found = /DevTools listening on (\S+)/.exec(said);
        if (found) resolve(found[1]);
      });
      child.on('exit', () => reject(new Error(`no browser: ${said}`)));
    });
    stage.browser = await chromium.connectOverCDP(address, { noDefaults: true });
    [stage.home] = stage.browser.contexts(); // the profile whose tabs are real ones: the last to be shown hides the others
    await stage.#prepare(stage.home);
    return stage;
  }

  close() {
    process.exit(); // the test ends the browser
  }

  async #prepare(context) {
    context.setDefaultTimeout(patience);
    await context.exposeBinding('tell', ({ page }, event) => this.tabs.find((tab) => tab.page === page)?.take(event));
  }

  // profile opens a browser profile of its own.
  async profile(options) {
    const context = await this.browser.newContext(options);
    await this.#prepare(context);
    return context;
  }

  // tab opens a page of the helpdesk for a user, in a profile: with the bell, or
  // with the client only.
  async tab(context, name, options = {}) {
    const tab = new Tab(this, name, await context.newPage());
    this.tabs.push(tab);
    await tab.go(options);
    return tab;
  }

  note(text) {
    this.trace.push(`${((Date.now() - this.#began) / 1000).toFixed(3).padStart(8)}  ${text}`);
    this.#wake();
  }

  #wake() {
    const { resolve } = this.#changed;
    this.#changed = later();
    resolve();
  }

  // until waits for a condition, which is looked at when something has happened,
  // and every now and then.
  async until(what, condition) {
    const late = Date.now() + patience;
    for (;;) {
      const { promise } = this.#changed;
      if (await condition()) return;
      if (Date.now() > late) assert.fail(`${what}: not so after ${patience / 1000} s`);
      await Promise.race([promise, delay(pace)]);
    }
  }

  async order(what) {
    this.note(`order: ${what}`);
    process.stdout.write(`${JSON.stringify({ do: what })}\n`);
    const { value } = await this.#answers.next();
    this.admin = JSON.parse(value).admin;
    this.note(`done: ${what}`);
  }

  // connections is how many the service has.
  async connections() {
    const metrics = await (await fetch(`${this.admin}/metrics`)).text();
    const lines = [...metrics.matchAll(/^peal_connections(?:{.*})? (\S+)$/gm)];
    assert.ok(lines.length > 0, 'there is no metric peal_connections');
    return lines.reduce((sum, [, n]) => sum + Number(n), 0);
  }

  // Publishing.

  async #try(to, notification) {
    const response = await fetch(`${this.service}/api/v2/ticketing/ticket/notification`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${this.desk}`, realmname: this.realm, 'x-tenantid': this.tenant, 'Content-Type': 'application/json' },
      body: JSON.stringify({ recipients: [to], notification }),
      signal: AbortSignal.timeout(5_000),
    });
    const text = await response.text();
    if (response.status < 500) assert.equal(response.status, 202, text);
    return response.status === 202;
  }

  // publish tells a user something, and returns its id once that is stored. What
  // is refused is tried again, under the same id.
  async publish(to, edits) {
    const id = `n${String(++this.#published).padStart(4, '0')}`;
    const notification = {
      id, type: 'mention', ticketId: '12345', ticketNumber: 'INC-2024-001234', title: `${id} VPN Connection Issue`,
      message: `You were mentioned, ${to}`, actor: { id: 'user-abc', name: 'Jane Smith', avatar: null }, ...edits,
    };
    while (!(await this.#try(to, notification).catch((error) => error instanceof assert.AssertionError ? Promise.reject(error) : false))) await delay(pace);
    this.note(`published ${id} to ${to}`);
    return id;
  }

  // publishing goes on telling a user something until it is stopped, which
  // returns the ids in their order.
  publishing(to) {
    const ids = [];
    let on = true;
    const done = (async () => {
      while (on) {
        ids.push(await this.publish(to));
        this.#wake();
        await delay(pace);
      }
    })();
    done.catch(() => {}); // stop tells of it
    return {
      ids,
      stop: async () => {
        on = false;
        await done;
        return ids;
      },
    };
  }

  // Afterwards.

  // clean fails if a page has broken its own policy, or thrown.
  clean() {
    for (const tab of this.tabs) assert.deepEqual(tab.wrong, [], `tab ${tab.name}`);
  }

  async shootAll() {
    for (const { name, page } of this.tabs) {
      if (!page.isClosed()) await page.screenshot({ path: `${this.shots}/failed-${name}.png`, timeout: 10_000 }).catch((error) => console.error(error.message));
    }
    console.error(`The tabs: ${this.tabs.map((tab) => `${tab.name} ${tab.page.url()}`).join(', ')}`);
  }
}

// A Tab is a page of the helpdesk, and what its client has told since the tab was
// opened, over reloads.
export class Tab {
  heard = []; // events, but for heartbeats
  wrong = [];

  constructor(stage, name, page) {
    Object.assign(this, { stage, name, page });
    page.on('pageerror', (error) => this.#bad(`threw ${error.stack ?? error}`));
  }

  #bad(text) {
    this.wrong.push(text);
    this.stage.note(`${this.name}: ${text}`);
  }

  take(event) {
    if (event.type === 'violation') return this.#bad(`broke its policy: ${event.directive} ${event.what}`);
    if (event.type === 'heartbeat') return;
    this.heard.push(event);
    const { type, data, cursor, ...rest } = event;
    this.stage.note(`${this.name}: ${type} ${data ? JSON.stringify(type === 'notification' ? { id: data.id, read: data.read } : data) : ''} ${JSON.stringify(rest)}`);
  }

  // go shows the page, for whom the options say.
  async go({ user = 'jane', ...more } = {}) {
    const { stage } = this;
    const query = new URLSearchParams({ service: stage.service, realm: stage.realm, tenant: stage.tenant, user, ...more });
    await this.page.goto(`${stage.page}/?${query}`);
  }

  all(type) {
    return this.heard.filter((event) => event.type === type);
  }

  // ids are those of all notifications that came, in the order they came.
  get ids() {
    return this.all('notification').map(({ data }) => data.id);
  }

  get status() {
    return this.all('status').at(-1)?.status.name;
  }

  live() {
    return this.is('live');
  }

  is(status) {
    return this.stage.until(`${this.name} is ${status}`, () => this.status === status);
  }

  // hears waits for a notification.
  hears(id) {
    return this.stage.until(`${this.name} hears ${id}`, () => this.ids.includes(id));
  }

  // has waits for the last one of these, and compares all that came with them.
  async has(ids) {
    await this.hears(ids.at(-1));
    assert.deepEqual(this.ids, ids, `what came to tab ${this.name}`);
  }

  // The bell.

  get bell() {
    return this.page.locator('peal-bell');
  }

  part(name) {
    return this.bell.locator(`[part~="${name}"]`);
  }

  rows(state = '') {
    return this.bell.locator(`li${state}`);
  }

  row(id) {
    return this.rows().filter({ hasText: id });
  }

  // unread waits for the number on the bell.
  async unread(n) {
    const want = n > 99 ? '99+' : n ? String(n) : '';
    let got;
    await this.shows(`${n} unread`, async () => {
      const badge = this.part('badge');
      got = await badge.isVisible() ? await badge.textContent() : '';
      return got === want;
    }).catch((error) => assert.fail(`${error.message}; it is ${got}`));
  }

  toasts() {
    return this.part('toast').locator('[part~="title"]').allTextContents();
  }

  // listed waits for the rows of the open panel to be those of the ids.
  async listed(ids) {
    let got;
    await this.shows(`the list ${ids}`, async () => {
      got = (await this.rows().locator('[part~="title"]').allTextContents()).map((text) => text.split(' ')[0]);
      return JSON.stringify(got) === JSON.stringify(ids);
    }).catch((error) => assert.fail(`${error.message}; it is ${got}`));
  }

  shows(what, condition) {
    return this.stage.until(`${this.name} shows ${what}`, condition);
  }

  async open() {
    await this.part('button').click();
    await this.part('panel').waitFor();
  }
}

// later is a promise, and what resolves it.
export function later() {
  let resolve;
  const promise = new Promise((done) => { resolve = done; });
  return { promise, resolve };
}
