import library from '@microsoft/fetch-event-source';

// The library is made for browsers and takes these for granted.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

const { fetchEventSource } = library;

function start(url, tell, init) {
  fetchEventSource(url, {
    openWhenHidden: true,
    onmessage: ({ event, id, data }) => tell.event(event, id, data, 'message'),
    onerror: () => tell.trouble(),
    ...init,
  }).then(tell.gone, tell.gone);
}

export function bare(url, headers, tell) {
  start(url, tell, { headers });
}

// The library tries again after everything but a clean end, of which it is made
// to think as of trouble. It must not hear of a token: it would send that one
// for ever.
export function follow(url, fresh, tell) {
  start(url, tell, {
    fetch: async (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...(await fresh()) } }),
    onclose() {
      throw new Error('ended');
    },
  });
}
