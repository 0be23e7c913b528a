import type { Env } from "./env.ts";
import type { Options } from "./options.ts";

export type Why = Parameters<Options["token"]>[0];

/** The tokens of one tab. They are kept here, in memory, and nowhere else. */
export interface Tokens {
  /**
   * get returns the token there is, unless it is used; then, or if there is
   * none, it asks the page. Who asks while another does gets the same answer.
   */
  get(why?: Why, used?: string): Promise<string>;
}

export function tokens(env: Env, callback: Options["token"]): Tokens {
  let current = "";
  let asking: Promise<string> | undefined;

  async function ask(why: Why): Promise<string> {
    let cancel!: () => void;
    // A callback that never answers must not be the end of everything.
    const late = new Promise<never>((_, reject) => (cancel = env.after(30_000, () => reject(new Error("peal: no token in 30 s")))));
    try {
      // Not before whoever has made the client has it.
      const token = await Promise.race([Promise.resolve(why).then(callback), late]);
      // Also what can't be a header: fetch would quote it in its error.
      if (typeof token !== "string" || !/^[!-~]+$/.test(token)) throw new Error("peal: the callback gave no token");
      return (current = token);
    } catch (error) {
      env.report(error); // all that the feed can say of it is "no token"
      throw error;
    } finally {
      cancel();
      asking = undefined;
    }
  }

  return {
    async get(why = "start", used = "") {
      return current !== used ? current : (asking ??= ask(why));
    },
  };
}
