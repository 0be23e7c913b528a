import EventSource from 'eventsource-v2';
import { listen, whenClosed } from './listen.mjs';

export function bare(url, headers, tell) {
  const source = new EventSource(url, { headers });
  listen(source, tell);
  whenClosed(source, tell.gone);
}

// The library reads its headers again for each request: so they are replaced
// where they are, as soon as a connection is lost. It gives up on most
// statuses: then another source goes on from the last id.
export async function follow(url, fresh, tell, last) {
  const headers = await fresh();
  if (last) headers['Last-Event-ID'] = last;
  const source = new EventSource(url, { headers });
  listen(source, {
    ...tell,
    event(name, id, ...rest) {
      last = id || last;
      tell.event(name, id, ...rest);
    },
  });
  source.addEventListener('error', async () => Object.assign(headers, await fresh()));
  whenClosed(source, () => setTimeout(() => follow(url, fresh, tell, last), 1000));
}
