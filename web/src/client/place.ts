import type { Env } from "./env.ts";

/** Where a tab is in the inbox. */
export interface Place {
  /** After what this tab has handed out; "" before the first. */
  cursor: string;
  /** resume returns the cursor to go on after, "" for the live end. */
  resume(): string;
  /** keep remembers a cursor also for the next page. */
  keep(cursor: string): void;
}

/**
 * place keeps the cursor in localStorage where all tabs share it, and in
 * sessionStorage otherwise: it is then good for a reload of this tab. A storage
 * that throws costs the resume after a reload and nothing else.
 */
export function place(env: Env, name: string, shared: boolean): Place {
  return {
    cursor: "",
    resume() {
      // This tab's own place comes first: another tab may be ahead of it.
      if (this.cursor) return this.cursor;
      try {
        return cursorIn(env.storage(shared).getItem(name));
      } catch {
        return "";
      }
    },
    keep(cursor) {
      this.cursor = cursor;
      try {
        env.storage(shared).setItem(name, cursor);
      } catch {}
    },
  };
}

/** cursorIn returns text if it can be a cursor, else "": what is none can't be sent as a header, or is answered with a gap. */
export const cursorIn = (text: string | null): string => (/^[!-~]{1,64}$/.test(text ?? "") ? (text as string) : "");
