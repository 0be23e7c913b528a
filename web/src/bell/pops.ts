// The toasts on the screen.

import type { Notification } from "../client/index.ts";
import { button, h, say, tool } from "./dom.ts";
import type { Words } from "./messages.ts";
import { content, type Open } from "./row.ts";
import { Stack } from "./toasts.ts";

const stay = 8; // how long a toast that is not urgent stays, in seconds

/** What the toasts need of the bell around them. */
export interface Around {
  words: Words;
  open: Open;
  /** Opens the panel. */
  show(): void;
  /** Where the focus goes when there is no toast left. */
  home: HTMLElement;
}

/** Pops shows a stack of toasts. Their time stands still while one of them is
 * pointed at or has the focus. */
export interface Pops {
  element: HTMLElement;
  /** render shows what there is, also again: a popover that is moved closes. */
  render(): void;
  add(n: Notification): void;
  remove(id: string): void;
  /** seen takes away all that are not urgent. */
  seen(): void;
  clear(): void;
}

export function pops({ words, open, show, home }: Around): Pops {
  const { messages } = words;
  const stack = new Stack();
  const toasts = new Map<string, { element: HTMLElement; left: number }>(); // left in seconds
  const more = button("more", show);
  const element = h("div", { className: "toasts", part: "toasts", popover: "manual" });
  let clock: ReturnType<typeof setInterval> | undefined;

  function remove(id: string): void {
    stack.remove(id);
    render();
  }

  // dismiss removes a toast that has the focus, which goes to the next one, or
  // to the button of the bell.
  function dismiss(id: string): void {
    remove(id);
    (element.querySelector("button") ?? home).focus();
  }

  function render(): void {
    const { shown } = stack;
    for (const [id, toast] of toasts) {
      if (shown.some((n) => n.id === id)) continue;
      toast.element.remove();
      toasts.delete(id);
    }
    const some = shown.length > 0;
    if (element.isConnected) element.togglePopover(some);
    for (const n of [...shown].reverse()) if (!toasts.has(n.id)) add(n);
    say(more, words.say(messages.more, stack.more));
    if (stack.more) element.append(more);
    else more.remove();
    if (some) clock ??= setInterval(tick, 1000);
    else clock = clearInterval(clock) as undefined;
  }

  function tick(): void {
    if (!element.matches(":hover,:focus-within")) toasts.forEach((toast, id) => --toast.left < 0 && remove(id));
  }

  function add(n: Notification): void {
    const urgent = n.priority === "urgent";
    const away = () => dismiss(n.id);
    const toast = h("div", { className: "toast", part: "toast", role: urgent ? "alert" : "status" },
      content(n, words, (n, e) => {
        away();
        open(n, e);
      }),
      tool("close", messages.close, away),
    );
    toast.onkeydown = (e) => {
      if (e.key !== "Escape") return;
      e.stopPropagation();
      away();
    };
    toasts.set(n.id, { element: toast, left: urgent ? Infinity : stay });
    element.prepend(toast);
  }

  return {
    element,
    render,
    remove,
    seen() {
      stack.seen();
      render();
    },
    clear() {
      stack.clear();
      render();
    },
    add(n) {
      stack.add(n);
      render();
    },
  };
}
