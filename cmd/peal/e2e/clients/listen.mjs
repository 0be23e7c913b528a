// What the libraries with the interface of EventSource have in common.

const names = ['connected', 'notification', 'gap', 'heartbeat'];

// listen tells of everything that a source fires.
export function listen(source, tell) {
  // The property first: setting it takes the listeners of some libraries away.
  source.onerror = (event) => {
    if (event.data !== undefined) tell.event('error', event.lastEventId, event.data, 'onerror');
  };
  source.addEventListener('error', (event) => {
    if (event.data !== undefined) tell.event('error', event.lastEventId, event.data, 'listener');
    else tell.trouble();
  });
  for (const name of names) {
    source.addEventListener(name, (event) => tell.event(name, event.lastEventId, event.data, 'listener'));
  }
}

// whenClosed calls back when a source has given up. No library has an event
// for that.
export function whenClosed(source, then) {
  const timer = setInterval(() => {
    if (source.readyState !== 2) return;
    clearInterval(timer);
    then();
  }, 20);
}

// patient is a fetch that sends fresh headers, and for which a busy server is
// trouble like a broken line, so that the library tries again.
export function patient(fresh) {
  return async (input, init) => {
    const response = await fetch(input, { ...init, headers: { ...init.headers, ...(await fresh()) } });
    if (response.status === 429 || response.status === 503) {
      await response.body?.cancel();
      throw new Error(`refused: ${response.status}`);
    }
    return response;
  };
}
