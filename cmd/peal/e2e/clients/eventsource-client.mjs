import { createEventSource } from 'eventsource-client';

function start(tell, init) {
  const source = createEventSource({
    onMessage: ({ event, id, data }) => tell.event(event, id, data, 'message'),
    onScheduleReconnect: () => tell.trouble(),
    ...init,
  });
  const timer = setInterval(() => {
    if (source.readyState !== 'closed') return;
    clearInterval(timer);
    tell.gone();
  }, 20);
}

export function bare(url, headers, tell) {
  start(tell, { url, headers });
}

export function follow(url, fresh, tell) {
  start(tell, {
    url,
    fetch: async (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...(await fresh()) } }),
  });
}
