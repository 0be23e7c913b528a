import type { Env } from "./env.ts";

/** What a tab gives to the tabs of its group; M is what the leader tells the others. */
export interface Member<M> {
  /** lead begins to lead; what it returns ends that. */
  lead(): Led;
  /** hear takes what the leader says. */
  hear(message: M): void;
  /** snapshot is what a tab that has just come must hear to know as much as the others. */
  snapshot(): M;
}

/** Of the feed of a leader. */
export interface Led {
  wake(): void;
  close(): void;
}

/** The tabs of one browser that share a connection. */
export interface Tabs<M> {
  join(): void;
  leave(): void;
  /** say tells the others, if this tab leads. */
  say(message: M): void;
  wake(): void;
}

const silence = 75_000; // ms without a word of the leader: it passes on a heartbeat every 30 s
const answer = 10_000; // ms that it may take to answer a hello

/** What goes over the channel. It never holds a token. */
interface Envelope<M> {
  term: number;
  hello?: true;
  snapshot?: boolean;
  message?: M;
}

/**
 * tabs makes one of them lead: the one that has the lock of that name, so that
 * another does as soon as it is gone, however it went. Without locks or channel,
 * or if alone is set, each leads itself.
 *
 * A background tab that leads may be frozen and keep its lock. Chromium freezes
 * none that holds one; others do. So a visible tab that hears nothing asks, and
 * takes the lock away if nothing is answered. Who has lost it so, queues again.
 */
export function tabs<M>(env: Env, name: string, alone: boolean, member: Member<M>): Tabs<M> {
  // Names the leader whose messages count, which may be this tab. Who leads later
  // has a higher one: a leader that was frozen goes on for a moment, and answers.
  let term = 0;
  let led: Led | undefined; // while this tab leads
  let channel: BroadcastChannel | undefined;
  let claim: AbortController | undefined; // to the lock; while in the group
  let cancel = () => {}; // takes back the next look at the leader

  const post = (e: Omit<Envelope<M>, "term">) => channel?.postMessage({ term, ...e });
  const later = (ms: number, f: () => void) => {
    cancel();
    cancel = env.after(ms + answer * env.random(), f); // not all tabs at once
  };
  const hello = () => {
    post({ hello: true });
    later(answer, () => (env.visible() ? queue(true) : listen()));
  };
  const listen = () => later(silence, hello);
  // Only the word that comes by a timer shows that this tab is not frozen: in
  // Chromium a frozen one goes on answering, but takes nothing from the network.
  const introduce = () => {
    post({ snapshot: true, message: member.snapshot() });
    env.after(0, () => led && post({}));
  };

  function lead(): void {
    cancel();
    term = Math.max(term + 1, env.now() + env.random());
    led = member.lead();
    if (claim) introduce();
    else follow(); // who was told that it begins has left
  }

  function follow(): void {
    led?.close();
    led = undefined;
  }

  function queue(steal: boolean): void {
    claim?.abort();
    const mine = (claim = new AbortController());
    const held = () => {
      if (mine.signal.aborted) return;
      const end = new Promise((release) => mine.signal.addEventListener("abort", release));
      lead();
      return end;
    };
    (env.locks as LockManager).request(name, steal ? { steal } : { signal: mine.signal }, held).catch((e: unknown) => {
      if (mine.signal.aborted) return;
      follow();
      if ((e as Error).name !== "AbortError") return lead(); // no locks here, after all
      queue(false);
      hello();
    });
  }

  function heard({ data: { term: theirs, hello, snapshot, message } }: MessageEvent<Envelope<M>>): void {
    if (led) {
      if (!hello) return;
      introduce();
      return led.wake(); // a person has come to one of the tabs
    }
    if (snapshot && theirs > term) term = theirs;
    if (theirs !== term || hello) return;
    if (!snapshot) listen();
    if (message) member.hear(message);
  }

  return {
    join() {
      if (claim) return;
      try {
        if (!alone) channel = env.channel(name);
      } catch {} // whoever may not be remembered gets none
      if (!channel) {
        claim = new AbortController();
        return lead();
      }
      channel.onmessage = heard;
      queue(false);
      hello();
    },
    leave() {
      cancel();
      follow();
      claim?.abort();
      claim = undefined;
      channel?.close();
      channel = undefined;
    },
    say(message) {
      if (led) post({ message });
    },
    wake() {
      if (led) led.wake();
      else if (claim) hello();
    },
  };
}
