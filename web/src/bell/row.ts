// A notification in the list, and what it shares with a toast.

import type { Notification } from "../client/index.ts";
import { button, h, icon, link, say } from "./dom.ts";
import type { Words } from "./messages.ts";

/** Opens a notification, for a click of any button of the mouse, or Enter. */
export type Open = (n: Notification, e: MouseEvent) => void;

/** content is a notification as a link: its picture in the colour of its
 * priority, and its texts, above them what is given. */
export function content(n: Notification, words: Words, open: Open, ...above: Node[]): HTMLAnchorElement {
  const { priority, actor } = n;
  const onclick = (e: MouseEvent) => open(n, e);
  const text = (className: string, ...content: (Node | string | false)[]) => h("span", { className, part: className }, ...content);
  const a = h("a", { className: priority, onclick },
    text("tile", icon(n.type)),
    text("text",
      text("meta", ...above, text("kind", words.name(n.type), (priority === "high" || priority === "urgent") && ` · ${words.name(priority)}`)),
      text("title", n.title || n.ticketNumber),
      text("message", n.message),
      text("meta", h("span", {}, n.ticketNumber), actor?.id !== "system" && h("span", {}, actor?.name)),
    ),
  );
  a.onauxclick = (e) => e.button === 1 && onclick(e); // it opens a tab of its own
  a.href = link(n.actionUrl) || "#"; // which is not followed
  return a;
}

export interface Row {
  element: HTMLElement;
  link: HTMLElement;
  /** show tells how it is now: read, muted (undefined: not known), and whether it
   * is the one row that Tab stops at. */
  show(read: boolean, muted: boolean | undefined, current: boolean): void;
  /** tick brings the time up to date. */
  tick(): void;
}

export function row(n: Notification, words: Words, open: Open, mark: () => void, mute: () => void): Row {
  const { messages } = words;
  const at = Date.parse(n.createdAt);
  const state = h("span", { className: "sr" });
  const time = h("time", at ? { dateTime: n.createdAt, title: new Date(at).toLocaleString(words.locale) } : {});
  const marker = button("tool", mark, h("span", { className: "dot" }));
  const muter = button("tool", mute, icon("mute"));
  const a = content(n, words, open, state, time);
  const element = h("li", { part: "item" }, a, h("span", { className: "acts" }, marker, muter));
  const tick = () => at && say(time, words.ago(at, Date.now()));
  tick();
  return {
    element,
    link: a,
    tick,
    show(read, muted, current) {
      element.className = (read ? "" : "unread ") + (muted ? "muted" : "");
      say(state, read ? "" : messages.onlyUnread);
      marker.title = read ? messages.markUnread : messages.markRead;
      muter.title = words.say(muted ? messages.unmute : messages.mute, 0, n.ticketNumber);
      muter.hidden = muted === undefined;
      for (const control of [a, marker, muter]) control.tabIndex = current ? 0 : -1;
    },
  };
}
