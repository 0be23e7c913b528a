import { client } from "./client.ts";
import { browser } from "./env.ts";
import type { Client, Options } from "./options.ts";

export type * from "../api.ts";
export type * from "./options.ts";
export { PealError } from "./problem.ts";

/**
 * connect follows the notifications of whoever is signed in, until the client is
 * closed. It throws a TypeError if an option is missing; everything that happens
 * later is said by events.
 */
export const connect = (options: Options): Client => client(browser(), options);
