import { EventSource } from 'eventsource';
import { listen, patient, whenClosed } from './listen.mjs';

export function bare(url, headers, tell) {
  const source = new EventSource(url, { headers });
  listen(source, tell);
  whenClosed(source, tell.gone);
}

export function follow(url, fresh, tell) {
  const source = new EventSource(url, { fetch: patient(fresh) });
  listen(source, tell);
  whenClosed(source, tell.gone);
}
