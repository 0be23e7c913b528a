// What the client takes from the browser, in one place, so that a test can give
// it a clock, locks and storage of its own.

export interface Env {
  origin: string; // of the page
  fetch: typeof fetch;
  now(): number; // ms since 1970
  random(): number; // in [0, 1)
  /** after calls f once, in ms; what it returns takes that back. */
  after(ms: number, f: () => void): () => void;
  online(): boolean;
  visible(): boolean;
  /** listen calls f on an event of the window or the document, until signal is aborted. */
  listen(name: "online" | "pagehide" | "pageshow" | "visibilitychange", f: (e: Event) => void, signal: AbortSignal): void;
  /** report shows the page's authors what their handler has thrown, or their token callback. */
  report(error: unknown): void;
  /** Undefined where the browser has none, or only for pages by HTTPS. */
  locks: LockManager | undefined;
  /** Throws where the browser has none; and Firefox where the user does not let pages store. */
  channel(name: string): BroadcastChannel;
  /** Throws where the user does not let pages store. */
  storage(shared: boolean): Storage;
}

export const browser = (): Env => ({
  origin: location.origin,
  fetch: (...args) => fetch(...args),
  now: Date.now,
  random: Math.random,
  after(ms, f) {
    // A longer one would come at once.
    const timer = setTimeout(f, Math.min(ms, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  },
  online: () => navigator.onLine,
  visible: () => document.visibilityState === "visible",
  listen: (name, f, signal) => addEventListener(name, f, { signal, capture: true }), // visibilitychange is the document's, and passes by
  report: (error) => reportError(error),
  locks: navigator.locks,
  channel: (name) => new BroadcastChannel(name),
  storage: (shared) => (shared ? localStorage : sessionStorage),
});
