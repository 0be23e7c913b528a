'use strict';
(() => {
  const main = document.getElementById('status'), live = document.getElementById('live');
  const quiet = 8000; // ms without a word, of which there is one every 2 s
  let heard = 0, source;

  const say = (state, text) => {
    if (live.dataset.state !== state) live.dataset.state = state;
    if (live.textContent !== text) live.textContent = text;
    document.body.classList.toggle('lost', state === 'lost');
  };

  // morph makes one element like another and leaves alone what is the same, so that
  // what is selected, and where one has scrolled to, stay.
  const morph = (from, to) => {
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    const is = [...from.childNodes], be = [...to.childNodes];
    be.forEach((next, i) => {
      const now = is[i];
      if (!now) return from.append(next);
      if (now.nodeName !== next.nodeName || now.id !== next.id) return now.replaceWith(next);
      if (now.nodeType === Node.ELEMENT_NODE) return morph(now, next);
      if (now.nodeValue !== next.nodeValue) now.nodeValue = next.nodeValue;
    });
    is.slice(be.length).forEach((extra) => extra.remove());
  };

  const follow = () => {
    source = new EventSource('status/events');
    source.addEventListener('status', ({ data }) => {
      heard = Date.now();
      const next = document.createElement('main');
      next.id = 'status';
      next.append(...new DOMParser().parseFromString(JSON.parse(data), 'text/html').body.childNodes);
      morph(main, next);
      const head = document.getElementById('head');
      if (head && document.title !== head.dataset.title) document.title = head.dataset.title;
      say('live', 'live');
    });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000); // refused: the browser gives up
    };
  };

  setInterval(() => {
    const since = Date.now() - heard;
    if (heard && since > quiet) say('lost', `no word for ${Math.round(since / 1000)} s: what is below is old`);
  }, 1000);
  addEventListener('pagehide', () => source.close());
  addEventListener('pageshow', (e) => { if (e.persisted) follow(); });
  follow();
})();
