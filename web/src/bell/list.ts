// What the bell knows of the inbox: a pure model, without a document and without
// a network.

import type { List, Notification } from "../client/index.ts";

/** A Mark is a change of read state that the user has asked for: it shows at
 * once, and is taken back if the service does not take it. */
export interface Mark {
  ids: Set<string>; // those that show it: of which no state event has told yet
  read: boolean;
  id: string | undefined; // of the one that is marked; undefined is all
  delta: number; // what it adds to the number of unread ones
  told: boolean; // a state event has told of it, so the number holds it
  done: boolean; // the service has answered
}

/** Entries holds the newest notifications, newest first, as far as they were
 * loaded; what arrives goes on top.
 *
 * Three things change what is read, in any order: pages, which are true at some
 * moment; state events, each later than the one before; and marks that are under
 * way. So what state events tell while a page is being loaded is told again
 * after it, and marks lie on top of both. */
export interface Entries {
  readonly items: readonly Notification[];
  /** The cursor of the page below; null where there is none. */
  readonly next: string | null;
  /** begin says that a page is being loaded from here on. */
  begin(): void;
  /** fill takes a page: in the place of all, but for what has arrived since
   * begin, or below what is there. What was there stays the same object. */
  fill(page: Pick<List, "notifications" | "next">, below?: boolean): void;
  /** arrive puts a notification that came live on top, once. */
  arrive(n: Notification): void;
  /** tell takes a state event. Without a list of changes everything may have
   * changed, and the pages are to be loaded again. */
  tell(changed?: readonly { id: string; read: boolean }[]): void;
  /** recount says that the number of unread ones was told anew. */
  recount(): void;
  /** mark shows a notification as read or unread that was not. */
  mark(n: Notification, read: boolean): Mark;
  /** markAll shows all as read; unread is how many there are in the inbox. */
  markAll(unread: number): Mark;
  /** settle ends a mark. changed is how many the service has changed; with any, a
   * state event tells of it, if it has not yet. undefined says that the service
   * has refused: then the mark is taken back. */
  settle(mark: Mark, changed: number | undefined): void;
  /** isRead is what is shown of a notification. */
  isRead(n: Notification): boolean;
  /** unread is the number to show, of the one that the client knows: -1 is not
   * known yet. */
  unread(known: number): number;
}

export function entries(): Entries {
  let items: Notification[] = [];
  let next: string | null = null;
  let arrived: Notification[] = []; // since begin
  let told: Map<string, boolean> | undefined; // likewise, by state events, while a page is being loaded: id → read
  let marks: Mark[] = []; // oldest first

  const isRead = (n: Notification) => marks.findLast((m) => !m.done && m.ids.has(n.id))?.read ?? n.read;

  function add(changed: Notification[], read: boolean, delta: number, id?: string): Mark {
    const mark = { ids: new Set(changed.map((n) => n.id)), read, delta, id, told: false, done: false };
    marks.push(mark);
    return mark;
  }

  function forget(): void {
    marks = marks.filter((mark) => !mark.told || !mark.done);
  }

  function recount(): void {
    for (const mark of marks) mark.told = true;
    forget();
  }

  return {
    get items() {
      return items;
    },
    get next() {
      return next;
    },
    isRead,
    recount,
    begin() {
      arrived = [];
      told = new Map();
    },
    fill(page, below) {
      const before = new Map(items.map((n) => [n.id, n]));
      items = below ? [...items] : arrived.filter((n) => !page.notifications.some(({ id }) => id === n.id));
      for (const n of page.notifications)
        if (!items.some(({ id }) => id === n.id)) items.push(Object.assign(before.get(n.id) ?? {}, n, { read: told?.get(n.id) ?? n.read }));
      next = page.next;
      told = undefined;
    },
    arrive(n) {
      if (items.some(({ id }) => id === n.id)) return;
      n = { ...n };
      items = [n, ...items];
      arrived = [n, ...arrived];
    },
    tell(changed) {
      if (!changed) return recount();
      for (const { id, read } of changed) {
        told?.set(id, read);
        for (const n of items) if (n.id === id) n.read = read;
        const mark = marks.find((m) => !m.told && m.read === read && m.id === id);
        if (mark) mark.told = true;
        for (const m of marks) // from here on the service has the word
          if (m.ids.delete(id) && !m.id) m.delta++;
      }
      // Of a mark of all, one event tells of whatever others have not marked by then.
      for (const m of marks) if (!m.id && !m.ids.size) m.told = true;
      forget();
    },
    mark(n, read) {
      return add([n], read, read ? -1 : 1, n.id);
    },
    markAll(unread) {
      return add(items.filter((n) => !isRead(n)), true, -Math.max(0, unread));
    },
    settle(mark, changed) {
      mark.done = true;
      if (!changed) mark.told = true;
      if (changed !== undefined) for (const n of items) if (mark.ids.has(n.id)) n.read = mark.read;
      forget();
    },
    unread: (known) => known < 0 ? known : Math.max(0, marks.reduce((sum, m) => m.told ? sum : sum + m.delta, known)),
  };
}
