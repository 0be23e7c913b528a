// Runs a scene on behalf of the test: with a browser, and a service that the
// test ends and starts again when it reads an order. A scene that fails leaves
// screenshots of all pages, and tells of everything that has happened.
//
//   node bell/run.mjs SCENE PROPS
import { pathToFileURL } from 'node:url';
import { Stage } from './stage.mjs';

const [scene, props] = process.argv.slice(2);
const { default: act } = await import(pathToFileURL(scene));
const stage = await Stage.open(JSON.parse(props));
try {
  await act(stage);
  stage.clean();
} catch (error) {
  console.error(`${error.stack}\n\nWhat has happened, in seconds since the beginning:\n${stage.trace.join('\n')}`);
  await stage.shootAll();
  process.exitCode = 1;
}
stage.close();
