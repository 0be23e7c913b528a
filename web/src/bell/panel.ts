// The panel: the list with what belongs to it, or the preferences in its place.

import type { Client, Notification, PealEvent, Preferences, Read, Status } from "../client/index.ts";
import { button, h, icon, say, tool } from "./dom.ts";
import { type Entries, entries as noEntries, type Mark } from "./list.ts";
import type { Words } from "./messages.ts";
import { form } from "./preferences.ts";
import { type Open, row, type Row } from "./row.ts";

const page = 50; // notifications that are loaded at first, and at a time
const mostAgain = 200; // the most that are loaded again at once; the others follow by scrolling
const mostOpen = 1_000; // what arrives on top of more has the list loaded again: it must not grow for ever
const noteFor = 8_000; // ms that a note stays
const tickEvery = 20_000; // ms after which times are brought up to date
const settled = 150; // ms that a replay must be quiet before the list is loaded again

/** What the panel needs of the bell around it. */
export interface Host {
  client: Client | undefined;
  words: Words;
  open: Open;
  /** The number of unread ones may be another. */
  changed(): void;
  close(): void;
}

export interface Panel {
  element: HTMLElement;
  entries: Entries;
  /** show loads what is not here yet, and keeps times and pages coming. */
  show(): void;
  /** hide stops all that moves. */
  hide(): void;
  /** refetch loads the list again, at once or when it is looked at next. */
  refetch(): void;
  take(e: Extract<PealEvent, { type: "notification" }>): void;
  tell(changed?: { id: string; read: boolean }[]): void;
  connection(status: Status): void;
  /** unread writes the number beside the title. */
  unread(text: string): void;
  /** mark marks a notification, at once on the screen, and takes it back if the
   * service does not follow. */
  mark(n: Notification, read: boolean): void;
}

type Timer = ReturnType<typeof setTimeout> | undefined;

export function panel(host: Host): Panel {
  const { client, words } = host;
  const { messages } = words;
  const entries = noEntries();
  const rows = new Map<string, Row>();
  let onlyUnread = false;
  let open = false;
  let stale = true; // what is here may be out of date
  let loading = false;
  let failed = false;
  let turn = 0; // of the load under way: what an earlier one brings is dropped
  let muted: Set<string> | undefined; // ids of tickets; undefined is not known
  let current: string | undefined; // the row that Tab stops at
  let calls: Promise<void> = Promise.resolve(); // marks go out one after the other
  let noted: Timer; // the note that is shown goes
  let ticking: Timer;
  let replay: Timer; // has ended
  let settings: HTMLElement | undefined; // the preferences, in place of main

  const title = h("h2", { part: "heading" });
  const count = h("span", { className: "count" });
  const filters = [messages.all, messages.onlyUnread].map((label, i) => button("", () => filter(i > 0), label));
  const all = button("plain", readAll, messages.markAll);
  const gear = tool("preferences", messages.preferences, () => (settings ? back(true) : preferences()));
  const line = h("p", { className: "note line", role: "status", part: "status" });
  const said = h("p", { className: "note", role: "status" });
  const list = h("ul", { role: "list", onkeydown: key });
  const nothing = h("div", { className: "nothing", role: "status" });
  const end = h("div", { className: "end" });
  const scroll = h("div", { className: "scroll" }, list, nothing, end);
  const main = h("div", { className: "main" },
    h("div", { className: "bar" }, h("div", {}, ...filters), all),
    scroll,
  );
  const element = h("section", { className: "panel", part: "panel", role: "dialog", ariaLabel: messages.title, tabIndex: -1, popover: "manual" },
    h("div", { className: "bar" }, title, count, gear, tool("close", messages.close, host.close)),
    line, main, said,
  );
  const watch = new IntersectionObserver((seen) => {
    if (seen.some((s) => s.isIntersecting)) load(true);
  }, { root: scroll, rootMargin: "400px" });
  element.onkeydown = (e) => {
    if (e.target === element && e.key === "ArrowDown") focus(0, e);
  };

  // Loading.

  function filter(only: boolean): void {
    onlyUnread = only;
    stale = true;
    entries.fill({ notifications: [], next: null });
    load();
  }

  // load gets the first page, as long as what is here if that may be had at
  // once, or the page below.
  async function load(below = false): Promise<void> {
    if (!client || (below && (loading || !entries.next))) return;
    const mine = ++turn;
    loading = true;
    failed = false;
    entries.begin();
    render();
    const answer = await client.list({
      limit: below ? page : Math.min(mostAgain, Math.max(page, entries.items.length)),
      ...(below && { before: entries.next! }),
      ...(onlyUnread && { unread: true }),
    }).catch(() => {});
    if (mine !== turn) return;
    if (answer) {
      entries.fill(answer, below);
      stale &&= below;
    } else failed = true;
    loading = false;
    render();
  }

  function retry(): void {
    if (open) load(!stale);
  }

  function refetch(): void {
    stale = true;
    if (open) load();
  }

  // What the user asks for.

  function send(mark: Mark, what: Read, then?: () => void): void {
    update();
    calls = calls.then(async () => {
      let changed: number | undefined;
      try {
        ({ changed } = await client!.read(what));
      } catch {
        note(messages.failed);
      }
      entries.settle(mark, changed);
      update();
      then?.();
    });
  }

  function mark(n: Notification, read: boolean): void {
    if (entries.isRead(n) !== read) send(entries.mark(n, read), { ids: [n.id], read });
  }

  function toggle(n: Notification): void {
    mark(n, !entries.isRead(n));
  }

  function readAll(): void {
    send(entries.markAll(entries.unread(client?.unread ?? 0)), { all: true }, () => onlyUnread && refetch());
  }

  async function mute({ ticketId }: Notification): Promise<void> {
    const on = !muted!.has(ticketId);
    try {
      const { value, etag } = await client!.preferences();
      const others = (value.mutedTickets ?? []).filter((id) => id !== ticketId);
      preferred((await client!.setPreferences({ ...value, mutedTickets: on ? [...others, ticketId] : others }, etag)).value);
    } catch {
      note(messages.failed);
    }
  }

  function preferred(value: Preferences): void {
    muted = new Set(value.mutedTickets);
    render();
  }

  // note shows a text for a while.
  function note(text: string): void {
    clearTimeout(noted);
    say(said, text);
    if (text) noted = setTimeout(note, noteFor, "");
  }

  // The preferences take the place of the list.

  async function preferences(): Promise<void> {
    try {
      const stored = await client!.preferences();
      if (!open || settings) return;
      settings = form(words, client!, stored, (id) => entries.items.find((n) => n.ticketId === id)?.ticketNumber ?? id, note, (value) => {
        back(true);
        note(messages.saved);
        preferred(value);
      });
      main.replaceWith(settings);
      face();
    } catch {
      note(messages.failed);
    }
  }

  function back(focus = false): void {
    settings?.replaceWith(main);
    settings = undefined;
    face();
    if (focus) gear.focus();
  }

  function face(): void {
    say(title, settings ? messages.preferences : messages.title);
    count.hidden = !!settings;
    gear.ariaPressed = String(!!settings);
    note("");
  }

  // The list.

  function update(): void {
    render();
    host.changed();
  }

  // render brings the list in line with what is known: rows that stay are not
  // touched, so that the place and the focus stay.
  function render(): void {
    const { items, next } = entries;
    filters.forEach((button, i) => (button.ariaPressed = String(onlyUnread === i > 0)));

    const keep = new Set(items.map((n) => n.id));
    let lost = false; // the row with the focus is gone
    for (const [id, { element }] of rows) {
      if (keep.has(id)) continue;
      lost ||= element.matches(":focus-within");
      element.remove();
      rows.delete(id);
    }
    if (!keep.has(current!)) current = items[0]?.id;
    let place = list.firstElementChild;
    for (const n of items) {
      let it = rows.get(n.id);
      if (!it) {
        rows.set(n.id, (it = row(n, words, host.open, () => toggle(n), () => mute(n))));
        it.element.addEventListener("focusin", () => {
          current = n.id;
          render();
        });
      }
      it.show(entries.isRead(n), muted?.has(n.ticketId), n.id === current);
      if (it.element === place) place = place.nextElementSibling;
      else list.insertBefore(it.element, place);
    }
    if (lost) focus(0);

    nothing.replaceChildren(...(failed ? [messages.failed, button("more", () => {
        retry();
        element.focus(); // for the button goes
      }, messages.retry)]
      : items.length > 0 ? []
      : loading ? [messages.loading]
      : [icon(""), onlyUnread ? messages.emptyUnread : messages.empty]));

    end.hidden = !next;
    watch.disconnect(); // observed anew, it tells where the end is now
    if (open && next && !loading && !failed) watch.observe(end);
  }

  function key(e: KeyboardEvent): void {
    const { items } = entries;
    const i = items.findIndex((n) => n.id === current);
    if (e.ctrlKey || e.metaKey || e.altKey || i < 0) return;
    const to = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: items.length - 1 }[e.key];
    if (to !== undefined) focus(to, e);
    if (e.key === "m") toggle(items[i]!);
  }

  function focus(i: number, e?: Event): void {
    const n = entries.items[Math.min(Math.max(i, 0), entries.items.length - 1)];
    (n ? rows.get(n.id)!.link : element).focus();
    e?.preventDefault();
  }

  face();
  render();

  return {
    element,
    entries,
    refetch,
    mark,
    show() {
      const tick = () => rows.forEach((row) => row.tick());
      open = true;
      ticking = setInterval(tick, tickEvery);
      tick();
      if (stale) load();
      // Without preferences there is nothing to mute with.
      if (!muted) client?.preferences().then(({ value }) => preferred(value), () => {});
      render();
    },
    hide() {
      open = false;
      clearInterval(ticking);
      clearTimeout(replay);
      back();
    },
    // Where a replay belongs in the list is not known, so the list is loaded
    // again when it has ended.
    take({ data, fresh }) {
      clearTimeout(replay);
      if (fresh && entries.items.length < (open ? mostOpen : stale ? 0 : mostAgain)) entries.arrive(data);
      else stale = true;
      if (stale && open) replay = setTimeout(refetch, settled);
      render();
    },
    tell(changed) {
      entries.tell(changed);
      // What is unread again belongs to the unread ones.
      if (onlyUnread && changed?.some(({ id, read }) => !read && !rows.has(id))) refetch();
      render();
    },
    connection({ name }) {
      if (name === "connecting") return; // or the line would flicker
      say(line, name === "live" ? "" : messages[name]);
      if (name === "live" && failed) retry();
    },
    unread(text) {
      say(count, text);
      all.ariaDisabled = String(!text); // not disabled, which would lose the focus
    },
  };
}
