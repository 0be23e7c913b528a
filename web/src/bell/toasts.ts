// Which notifications pop up: a pure model.

import type { Notification } from "../client/index.ts";

/** At most so many at a time; the others are summed up. */
export const most = 3;

/** rank is how loud a notification is: 0 makes no toast, 1 a polite one, 2 an
 * alert that stays. Old ones and those of quiet hours make none. A priority that
 * is not known is as a medium one. */
export function rank(n: Notification, fresh: boolean): 0 | 1 | 2 {
  if (!fresh || n.silent || n.read || n.priority === "low") return 0;
  return urgent(n) ? 2 : 1;
}

const urgent = (n: Notification) => n.priority === "urgent";

/** Stack decides what is on the screen: urgent ones first, then the oldest. An
 * urgent one that has no room waits for it; another is only counted, until the
 * next one goes. */
export class Stack {
  #all: Notification[] = []; // oldest first

  /** shown is at most 3. */
  get shown(): Notification[] {
    return [...this.#all.filter(urgent), ...this.#all.filter((n) => !urgent(n))].slice(0, most);
  }

  /** more is how many have no room. */
  get more(): number {
    return Math.max(0, this.#all.length - most);
  }

  add(n: Notification): void {
    this.#all.push(n);
  }

  /** remove takes one away: dismissed, or read on some device. */
  remove(id: string): void {
    const { shown } = this;
    this.#all = this.#all.filter((n) => n.id !== id && (urgent(n) || shown.includes(n)));
  }

  /** seen takes away all that are not urgent. */
  seen(): void {
    this.#all = this.#all.filter(urgent);
  }

  clear(): void {
    this.#all = [];
  }
}
