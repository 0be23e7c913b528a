// The element: a button with a number, and what opens from it.

import { connect, type Client, type Notification, type Options, type PealEvent } from "../client/index.ts";
import css from "./bell.css";
import { h, icon, link, say } from "./dom.ts";
import { type SomeMessages, Words } from "./messages.ts";
import { panel, type Panel } from "./panel.ts";
import { pops, type Pops } from "./pops.ts";
import type { Open } from "./row.ts";
import { rank } from "./toasts.ts";

/** The detail of peal-open. */
export interface PealOpen {
  notification: Notification;
}

const mostShown = 99; // above it the badge says 99+
const edge = 8; // the least room around the panel, in pixels
const hold = 10_000; // ms in which a tab that is late must have asked whether it shows a toast
const least = 320; // the panel opens upwards if there is less room below, in pixels

const look = new CSSStyleSheet(); // one for all bells of a page
look.replaceSync(css);

/** `<peal-bell>` is a bell for one user's notifications.
 *
 * It follows the client it is given. Without one it makes its own, as soon as it
 * has the attributes realm, tenant and user (and url, where the service is at
 * another origin) and the property token; it closes that one when it leaves the
 * page or one of these changes. A client that it was given it never closes.
 *
 * `peal-open` is sent when a notification is opened by a plain click or Enter.
 * Who takes it over, such as the router of a single-page app, calls
 * preventDefault; else the browser follows the link. */
export class PealBell extends HTMLElement {
  static readonly observedAttributes = ["url", "realm", "tenant", "user"];

  #given: Client | undefined;
  #own: Client | undefined;
  #token: Options["token"] | undefined;
  #some: SomeMessages | null | undefined;
  #begun = false; // in a document
  #source: unknown = null; // what the client was made of, or given; null is nobody has looked yet

  #root = this.attachShadow({ mode: "open" });
  #place = new CSSStyleSheet(); // where the panel is
  #opened: AbortController | undefined; // of the open panel
  #offs: (() => void)[] = []; // of the client's events
  #truncated = false;
  #late = new Map<string, () => void>(); // what came while nobody looked: id → shows it

  // What is made anew for other texts or another client.
  #words!: Words;
  #badge!: HTMLElement;
  #button!: HTMLElement;
  #panel!: Panel;
  #pops!: Pops;

  constructor() {
    super();
    this.#root.adoptedStyleSheets = [look, this.#place];
    this.addEventListener("keydown", (e) => { if (e.key === "Escape") this.#hide(true); });
    this.#build();
  }

  /** The client that the bell follows. */
  get client(): Client | undefined {
    return this.#given ?? this.#own;
  }

  set client(client: Client | null | undefined) {
    this.#given = client ?? undefined;
    this.#configure();
  }

  /** The callback for tokens of a client of the bell's own: see Options. */
  get token(): Options["token"] | undefined {
    return this.#token;
  }

  set token(token: Options["token"] | undefined) {
    this.#token = token;
    if (this.#own?.status.name === "refused") this.#source = null; // which another token may change
    this.#configure();
  }

  /** The texts. Those that are left out are English. */
  get messages(): SomeMessages {
    return this.#some ?? {};
  }

  set messages(some: SomeMessages | null | undefined) {
    if (some === this.#some) return;
    this.#some = some;
    this.#build();
  }

  /** Whether the panel is open. */
  get open(): boolean {
    return !!this.#opened;
  }

  set open(open: boolean) {
    if (!open) this.#hide();
    else if (!this.open && this.#begun) this.#show();
  }

  /** How many are unread, as the badge says; -1 is not known yet. */
  get unread(): number {
    return this.#panel.entries.unread(this.client?.unread ?? -1);
  }

  attributeChangedCallback(): void {
    this.#configure();
  }

  connectedCallback(): void {
    if (this.#begun) { // moved
      this.#put();
      return this.#pops.render();
    }
    this.#begun = true;
    this.#configure();
    // What was set before the element was defined hides its properties.
    const it = this as Record<string, unknown>;
    for (const name of ["messages", "client", "token", "open"]) {
      const value = it[name];
      if (Object.hasOwn(it, name) && delete it[name]) it[name] = value;
    }
  }

  // Whoever moves an element removes it for a moment: that is no reason to begin
  // anew, so what is to stop stops a little later.
  disconnectedCallback(): void {
    queueMicrotask(() => {
      if (this.isConnected) return;
      this.#hide();
      this.#begun = false;
      this.#pops.clear();
      this.#follow();
      this.#own?.close();
      this.#own = undefined;
      this.#source = null;
    });
  }

  // The client.

  // configure looks at what was set. To set the same again, or another callback,
  // as whoever renders a page does all the time, changes nothing.
  #configure(): void {
    if (!this.#begun) return;
    const values = PealBell.observedAttributes.map((name) => this.getAttribute(name)) as string[]; // or null
    const [url, realm, tenant, user] = values;
    const own = this.#token && realm && tenant && user;
    const source = this.#given ?? (own && JSON.stringify(values));
    if (source === this.#source) return;
    this.#source = source;
    this.#own?.close();
    this.#own = undefined;
    try {
      if (own && !this.#given) this.#own = connect({ url: url!, realm, tenant, user, token: (why) => this.#token!(why) });
    } finally {
      this.#build(); // also for a url that is none: what is here is of the client before
    }
  }

  #follow(client?: Client): void {
    for (const off of this.#offs) off();
    this.#offs = [];
    this.#late.clear();
    this.#truncated = false;
    if (!client) return;
    const panel = this.#panel;
    const count = () => this.#count();
    const again = () => {
      panel.entries.recount();
      count();
    };
    const look = () => {
      for (const ask of this.#late.values()) ask();
      this.#late.clear();
    };
    document.addEventListener("visibilitychange", look);
    this.#offs = [
      () => document.removeEventListener("visibilitychange", look),
      client.on("notification", (e) => this.#take(e)),
      client.on("state", ({ data: { changed } }) => {
        panel.tell(changed);
        for (const { id, read } of changed ?? []) if (read) {
          this.#pops.remove(id);
          this.#late.delete(id);
        }
        count();
      }),
      client.on("connected", again),
      client.on("refetch", () => {
        again(); // where other tabs heard the state events
        panel.refetch();
        this.#recount();
      }),
      client.on("unread", count),
      client.on("status", ({ status }) => panel.connection(status)),
    ];
    panel.connection(client.status);
    this.#recount();
  }

  // recount learns whether there were more unread ones than an inbox keeps.
  #recount(): void {
    const { client } = this;
    client?.count().then(({ truncated }) => {
      if (client === this.client) this.#truncated = truncated;
      this.#count();
    }, () => {}); // the number itself comes with the feed
  }

  // take shows a toast for a notification if it is one to show, in one tab only
  // of those with clients of one name: the one that gets the lock, which it holds
  // until all others have come too late. What is urgent waits for somebody to look,
  // who may look at the others at any time: so its lock is held for good.
  #take(e: Extract<PealEvent, { type: "notification" }>): void {
    const { data } = e;
    this.#panel.take(e);
    const loud = rank(data, e.fresh);
    // What is not urgent can be seen in the open panel, and is late when somebody looks.
    if (!loud || (loud === 1 && (document.hidden || this.open))) return;
    const pops = this.#pops; // of the one whose client this is: another's may be here when there is the lock
    const show = () => { if (pops.element.isConnected) pops.add(data); };
    const ask = () => {
      if (!navigator.locks) return show();
      navigator.locks.request(`${this.client!.name}:${data.id}`, { ifAvailable: true }, (lock) => {
        if (!lock) return;
        show();
        return new Promise((resolve) => loud === 1 && setTimeout(resolve, hold));
      }).catch(show); // no locks here, after all
    };
    if (document.hidden) this.#late.set(data.id, ask);
    else ask();
  }

  // The look.

  // build makes everything anew, for another client or other texts.
  #build(): void {
    this.#hide();
    this.#pops?.clear();
    const words = this.#words = new Words(this.messages, this.closest<HTMLElement>("[lang]")?.lang || navigator.language);
    const open: Open = (n, e) => this.#openItem(n, e);
    this.#badge = h("span", { className: "badge", part: "badge", ariaHidden: "true" });
    this.#button = h("button", { className: "bell", part: "button", onclick: () => { this.open = !this.open; } }, icon(""), this.#badge);
    this.#panel = panel({
      words,
      open,
      client: this.client,
      changed: () => this.#count(),
      close: () => this.#hide(true),
    });
    this.#pops = pops({
      words,
      open,
      show: () => { this.open = true; },
      home: this.#button,
    });
    this.#root.replaceChildren(this.#button, this.#panel.element, this.#pops.element);
    if (this.#begun) this.#follow(this.client);
    this.#count();
  }

  // count shows the number of unread ones.
  #count(): void {
    const words = this.#words;
    const { messages } = words;
    const { unread } = this;
    const n = Math.max(0, unread);
    const plus = this.#truncated && n > 0;
    const whole = words.say(plus ? messages.moreThan : messages.unread, n);
    say(this.#badge, words.number(Math.min(n, mostShown)) + (plus || n > mostShown ? "+" : ""));
    this.#badge.hidden = !n;
    this.#button.ariaLabel = messages.title + (unread < 0 ? "" : `, ${whole}`);
    this.#button.ariaExpanded = String(this.open);
    this.#panel.unread(n ? whole : "");
  }

  // Open and close.

  #show(): void {
    const opened = (this.#opened = new AbortController());
    const listen = (type: string, listener: (e: Event) => void) => addEventListener(type, listener, { signal: opened.signal, capture: true });
    for (const type of ["pointerdown", "focusin"]) listen(type, (e) => { if (!e.composedPath().includes(this)) this.#hide(); });
    for (const type of ["resize", "scroll"]) listen(type, () => this.#put());
    this.#pops.seen(); // they are in the list
    this.#put();
    this.#panel.show();
    this.#panel.element.focus();
    this.#count();
  }

  #hide(focus = false): void {
    if (!this.#opened) return;
    this.#opened.abort();
    this.#opened = undefined;
    const { element } = this.#panel;
    this.#panel.hide();
    if (this.isConnected) element.togglePopover(false);
    if (focus) this.#button.focus();
    this.#count();
  }

  // put places the open panel at its button: below it, or above if there is no
  // room, and with their ends aligned. A style sheet does that, for a page may
  // allow no style attributes.
  #put(): void {
    if (!this.open) return;
    const { element } = this.#panel;
    element.togglePopover(true);
    const at = this.#button.getBoundingClientRect();
    const { clientWidth, clientHeight } = document.documentElement;
    const width = element.offsetWidth;
    const start = this.matches(":dir(rtl)") ? at.left : at.right - width;
    const left = Math.max(edge, Math.min(start, clientWidth - width - edge));
    const below = clientHeight - at.bottom;
    const down = below >= least || below >= at.top;
    this.#place.replaceSync(`@media(width>480px){.panel{left:${left}px;${down ? "top" : "bottom"}:${(down ? at.bottom : clientHeight - at.top) + edge}px;max-height:${(down ? below : at.top) - 2 * edge}px}}`);
  }

  #openItem(n: Notification, e: MouseEvent): void {
    this.#panel.mark(n, true);
    if (e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return; // the browser's matter
    this.#hide(true); // before the page is told, which may put the focus elsewhere
    const open = new CustomEvent<PealOpen>("peal-open", { detail: { notification: n }, bubbles: true, composed: true, cancelable: true });
    if (!this.dispatchEvent(open) || !link(n.actionUrl)) e.preventDefault();
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "peal-bell": PealBell;
  }
  interface HTMLElementEventMap {
    "peal-open": CustomEvent<PealOpen>;
  }
}
