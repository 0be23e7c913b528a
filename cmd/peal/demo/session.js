// Who the page is. peal dev hands out the session; it is
// asked for again shortly before its token expires.

const margin = 30_000; // milliseconds before expiry

let session = null;
let asking = null; // the request under way; all callers share it

// current answers the session: {realm, tenant, user, token, publisher, api,
// expiresAt, version}. renew asks for a new one in any case.
export async function current(renew = false) {
  if (session && !renew && Date.parse(session.expiresAt) - Date.now() > margin) return session;
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

async function ask() {
  const response = await fetch(new URL("session", import.meta.url), { cache: "no-store", signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw Object.assign(new Error("session refused"), { reason: `No session: ${await problem(response)}` });
  session = await response.json();
  return session;
}

// problem puts a refusal (RFC 9457) into one line.
export async function problem(response) {
  const { code, title, detail } = await response.json().catch(() => ({}));
  return [`${response.status} ${code ?? ""}`.trim(), detail || title].filter(Boolean).join(": ");
}
