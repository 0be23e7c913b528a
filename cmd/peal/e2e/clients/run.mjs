// Runs one library on behalf of the test, which reads from standard output what
// happens: a line of JSON each. It ends when standard input does.
//
//   node clients/run.mjs LIBRARY ORDER
import { createInterface } from 'node:readline';

const [library, order] = process.argv.slice(2);
const { mode, targets, tokens, headers } = JSON.parse(order);
const adapter = await import(`./${library}.mjs`);

// fresh returns the headers of a request, with a token that was made for it.
async function fresh() {
  const response = await fetch(tokens);
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return { ...headers, Authorization: `Bearer ${await response.text()}` };
}

for (const [run, url] of Object.entries(targets)) {
  const say = (report) => {
    process.stdout.write(`${JSON.stringify({ run, ...report })}\n`); // and return nothing: some libraries heed it
  };
  const tell = {
    event: (name, id, data, via) => say({ what: 'event', name, id, data, via }),
    trouble: () => say({ what: 'trouble' }),
    gone: () => say({ what: 'gone' }),
  };
  if (mode === 'bare') adapter.bare(url, { ...headers }, tell);
  else await adapter.follow(url, fresh, tell);
}

createInterface({ input: process.stdin }).on('close', () => process.exit(0));
