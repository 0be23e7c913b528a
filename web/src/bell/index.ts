// peal-bell.js: the element, and the client with it.

import { PealBell } from "./bell.ts";

export * from "../client/index.ts";
export { PealBell, type PealOpen } from "./bell.ts";
export { english, type Messages, type Plural, type SomeMessages } from "./messages.ts";

// A page that loads it twice, by two names, keeps the first.
if (!customElements.get("peal-bell")) customElements.define("peal-bell", PealBell);
