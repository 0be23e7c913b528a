// Runs oidc-provider on behalf of the test: one issuer for each realm of the
// order, on a port of its own. Each line of standard input, {"realm", "keys"},
// starts that realm's provider again, where it was, with the keys of those names;
// the first one signs. A key is made when it is named first. After each start a
// line of JSON, {"realm", "issuer"}, is on standard output. It ends when
// standard input does.
//
//   node idp/idp.mjs ORDER
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

console.info = console.error; // the provider's notices

const { client, service, resource, audience, scope, realms } = JSON.parse(process.argv[2]);
const hour = 60 * 60;

function makeKey(alg, kid) {
  const { privateKey } =
    alg === 'RS256'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

// provide makes the provider of a realm. What it knew of logins before is gone.
function provide({ name, alg, tenants, logout, issuer }, keys) {
  return new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    clientDefaults: { id_token_signed_response_alg: alg },
    clients: [
      {
        client_id: client.id,
        client_secret: client.secret,
        redirect_uris: [client.redirect],
        grant_types: ['authorization_code', 'refresh_token'],
        backchannel_logout_uri: logout,
        backchannel_logout_session_required: true,
      },
      {
        client_id: service.id,
        client_secret: service.secret,
        redirect_uris: [],
        response_types: [],
        grant_types: ['client_credentials'],
      },
    ],
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ audience, scope, accessTokenFormat: 'jwt', jwt: { sign: { alg } } }),
      },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = form;
        },
        postLogoutSuccessSource: (ctx) => {
          ctx.body = 'signed out';
        },
      },
    },
    findAccount: (_, id) => (id in tenants ? { accountId: id, claims: () => ({ sub: id }) } : undefined),
    extraTokenClaims: (_, { accountId, clientId, sid }) => ({ tenant_id: tenants[accountId ?? clientId], sid }),
    issueRefreshToken: () => true,
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    // The provider guards its requests against addresses like ours.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    ttl: {
      AccessToken: hour,
      AuthorizationCode: hour,
      ClientCredentials: hour,
      Grant: hour,
      IdToken: hour,
      Interaction: hour,
      RefreshToken: hour,
      Session: hour,
    },
  });
}

// signIn answers what a browser is sent to where nobody is signed in: it signs
// in whoever login_hint names, and consents.
async function signIn(provider, request, response) {
  const { params } = await provider.interactionDetails(request, response);
  const accountId = params.login_hint;
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope('openid');
  const grantId = await grant.save();
  await provider.interactionFinished(request, response, { login: { accountId }, consent: { grantId } });
}

const running = new Map(); // realm → its function start, of names of keys

for (const realm of realms) {
  const made = new Map(); // name → key
  let provider;
  let answer;
  const server = createServer((request, response) => {
    if (!request.url.startsWith('/interaction/')) return answer(request, response);
    signIn(provider, request, response).catch((error) => {
      console.error(error);
      response.writeHead(500).end();
    });
  });
  running.set(realm.name, (names) => {
    const issuer = `http://127.0.0.1:${server.address().port}`;
    for (const name of names) if (!made.has(name)) made.set(name, makeKey(realm.alg, `${realm.name}-${name}`));
    provider = provide({ ...realm, issuer }, names.map((name) => made.get(name)));
    answer = provider.callback();
    process.stdout.write(`${JSON.stringify({ realm: realm.name, issuer })}\n`);
  });
  server.listen(0, '127.0.0.1', () => running.get(realm.name)(realm.keys));
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { realm, keys } = JSON.parse(line);
    running.get(realm)(keys);
  })
  .on('close', () => process.exit(0));
