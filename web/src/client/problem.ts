import type { Problem } from "../api.ts";

/** A refusal of the service. */
export class PealError extends Error {
  /** The HTTP status. */
  declare status: number;
  /** Why, in a word, such as "RATE_LIMIT"; "" where something else than the service has answered. */
  declare code: string;
  /** For whoever looks into the log; "" without. */
  declare requestId: string;

  constructor(status: number, problem: Partial<Problem>) {
    super(`${status} ${problem.detail || problem.title || ""}`.trim());
    this.name = "PealError";
    this.status = status;
    this.code = problem.code ?? "";
    this.requestId = problem.instance ?? "";
  }
}
