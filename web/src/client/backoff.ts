// How long to wait before the next connect.

const most = 30_000; // ms, of the random wait
const patience = 300_000; // ms: a mistaken Retry-After must not park a client for a day

/** What to wait: until floor whatever happens, until wait unless something wakes us. Both in ms. */
export interface Wait {
  floor: number;
  wait: number;
}

/**
 * backoff is full jitter over a range that doubles with every failure, up to
 * 30 s, and never less than what the server asked for.
 *
 * @param failures waits since a connection was good
 * @param retry the server's last `retry:`, in ms; 0 if it gave none
 * @param after the Retry-After of the last answer, in ms; 0 without
 * @param random in [0, 1)
 */
export function backoff(failures: number, retry: number, after: number, random: number): Wait {
  const floor = Math.min(patience, retry + after);
  return { floor, wait: Math.max(floor, after + random * Math.min(most, Math.max(1000, retry) * 2 ** failures)) };
}

/** retryAfter reads a Retry-After, in seconds or as a date, as ms from now; 0 if it is neither, or past. */
export function retryAfter(value: string | null, now: number): number {
  const text = value ?? "";
  const ms = /^\d+$/.test(text) ? +text * 1000 : Date.parse(text) - now;
  return ms > 0 ? Math.min(patience, ms) : 0;
}
