import { EventSource } from 'eventsource';
import Reconnecting from 'reconnecting-eventsource';
import { listen, patient, whenClosed } from './listen.mjs';

// noticing tells of trouble that the wrapper keeps to itself.
function noticing(tell, init) {
  return class extends EventSource {
    constructor(url, configuration) {
      super(url, { ...configuration, ...init });
      this.addEventListener('error', (event) => {
        if (event.data === undefined) tell.trouble();
      });
    }
  };
}

export function bare(url, headers, tell) {
  const source = new Reconnecting(url, { eventSourceClass: noticing(tell), headers });
  listen(source, { ...tell, trouble() {} });
  whenClosed(source, tell.gone);
}

export function follow(url, fresh, tell) {
  const source = new Reconnecting(url, { eventSourceClass: noticing(tell, { fetch: patient(fresh) }) });
  listen(source, { ...tell, trouble() {} });
  whenClosed(source, tell.gone);
}
