// A page of a helpdesk whose user is signed in. Its address says who that is,
// and whether it shows the bell, the bell with a client that the scene plays, or
// follows by the client alone; or leaves all that to the scene. It tells the test
// of everything that the client says.

const order = Object.fromEntries(new URLSearchParams(location.search));
const { service, realm, tenant, user, as = user, ttl = '1h', from = '/peal.js' } = order;

const types = ['connected', 'notification', 'state', 'gap', 'heartbeat', 'error', 'status', 'unread', 'refetch'];

async function token(user, why) {
  tell({ type: 'token', why });
  const response = await fetch(`/token/${user}?ttl=${ttl}`);
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return response.text();
}

function watch(client) {
  globalThis.client = client;
  tell({ type: 'status', status: client.status });
  for (const type of types) {
    client.on(type, (event) => {
      if (type === 'notification') keep(event.data.id);
      tell(event);
    });
  }
}

// keep writes down what has come where the next page of this tab finds it: what
// is told at the very moment a page goes may be lost on the way to the test.
function keep(id) {
  if ('keep' in order) sessionStorage.heard = (sessionStorage.heard ?? '') + id + ' ';
}

addEventListener('securitypolicyviolation', (e) => tell({ type: 'violation', directive: e.effectiveDirective, what: `${e.blockedURI} ${e.sample}` }));

const bell = document.querySelector('peal-bell');
if ('bell' in order || 'played' in order) {
  await import('/peal-bell.js');
  bell.hidden = false;
}

if ('bare' in order) {
  Object.assign(globalThis, { bell, token, watch, attributes: { url: service, realm, tenant, user } });
} else if ('played' in order) {
  const { played } = await import('/played.js');
  bell.client = played();
  watch(bell.client);
} else if ('bell' in order) {
  Object.entries({ url: service, realm, tenant }).forEach(([name, value]) => bell.setAttribute(name, value));
  bell.addEventListener('peal-open', (e) => {
    e.preventDefault(); // there are no pages of tickets here
    tell({ type: 'open', id: e.detail.notification.id });
  });
  globalThis.signIn = (user, as = user) => {
    bell.setAttribute('user', user);
    bell.token = (why) => token(as, why);
    watch(bell.client);
  };
  signIn(user, as);
} else {
  const { connect } = await import(from);
  watch(connect({ url: service, realm, tenant, user, token: (why) => token(as, why) }));
}
