/**
 * Failures that travel over the control socket. Whatever the daemon refuses is one of these: a kind for programs, one sentence
 * for people, and where we know it, what to do. Standard codes are those of JSON-RPC 2.0, section 5.1; the positive ones are ours.
 */

/** Error codes of the control socket, by kind. */
export const FAILURE_CODES = {
  'parse-error': -32700,
  'invalid-request': -32600,
  'method-not-found': -32601,
  'invalid-params': -32602,
  internal: -32603,
  /** The operation was tried and did not work. */
  failed: 1,
  /** What the request names does not exist. */
  'not-found': 2,
  /** The name is already taken. */
  exists: 3,
  /** A rule of the switch, or an extension's veto, forbids it. */
  refused: 4,
  /** The configuration is not valid. */
  config: 5,
  /** The daemon lacks the privilege. */
  privilege: 6,
  /** A limit is reached, or the daemon is shutting down. */
  busy: 7,
} as const;

/** Names the kind of a failure; stable, for programs. */
export type FailureKind = keyof typeof FAILURE_CODES;

/** A request failed. The message is one sentence for people; `hint` says what to do about it. */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly kind: FailureKind;
  readonly hint: string | null;

  /**
   * @param message one sentence, without a full stop at its end
   * @param hint what the user can do, one sentence
   */
  constructor(kind: FailureKind, message: string, hint: string | null = null) {
    super(message);
    this.kind = kind;
    this.hint = hint;
  }

  get code(): number {
    return FAILURE_CODES[this.kind];
  }
}

/** The sentence of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Make a failure of anything that was thrown; a Failure passes as it is. */
export function toFailure(error: unknown, kind: FailureKind = 'failed'): Failure {
  return error instanceof Failure ? error : new Failure(kind, messageOf(error));
}
