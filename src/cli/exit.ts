/** How commands end: exit codes, and errors as one sentence with what to do. Used by main.ts and by commands that find something wrong. */
import { DaemonNotRunning, Failure, messageOf } from '../daemon/client.ts';

/** Exit codes; `millrace help exit-codes` prints them from here. */
export const EXIT_CODES = {
  OK: { code: 0, text: 'done' },
  FAILED: { code: 1, text: 'it was tried and failed, or the daemon ended because of an error' },
  USAGE: { code: 2, text: 'the command line or the configuration is not valid' },
  NOT_RUNNING: { code: 3, text: 'no daemon is running on the socket' },
  REFUSED: {
    code: 4,
    text: 'refused: not found, exists already, or forbidden by a rule; or what is in the place of the socket is none',
  },
  PRIVILEGE: { code: 5, text: 'not enough privilege' },
} as const;

/** Ends the command with a code and a sentence. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: number;
  readonly hint: string | null;

  /** @param code one of {@link EXIT_CODES} */
  constructor(code: keyof typeof EXIT_CODES, message: string, hint: string | null = null) {
    super(message);
    this.exitCode = EXIT_CODES[code].code;
    this.hint = hint;
  }
}

/** How a command that threw ends. */
export interface Ending {
  exitCode: number;
  kind: string;
  message: string;
  hint: string | null;
}

function codeOf(failure: Failure): number {
  switch (failure.kind) {
    case 'not-found':
    case 'exists':
    case 'refused':
      return EXIT_CODES.REFUSED.code;
    case 'config':
    case 'invalid-params':
      return EXIT_CODES.USAGE.code;
    case 'privilege':
      return EXIT_CODES.PRIVILEGE.code;
    default:
      return EXIT_CODES.FAILED.code;
  }
}

/** Decide how a command that threw ends. */
export function endingOf(error: unknown): Ending {
  if (error instanceof CliError)
    return { exitCode: error.exitCode, kind: 'failed', message: error.message, hint: error.hint };
  if (error instanceof DaemonNotRunning) {
    const { message, hint } = error;
    return { exitCode: EXIT_CODES.NOT_RUNNING.code, kind: 'not-running', message, hint };
  }
  if (error instanceof Failure)
    return { exitCode: codeOf(error), kind: error.kind, message: error.message, hint: error.hint };
  if (error instanceof Error && error.name === 'ConfigError') {
    return { exitCode: EXIT_CODES.USAGE.code, kind: 'config', message: error.message, hint: null };
  }
  return { exitCode: EXIT_CODES.FAILED.code, kind: 'failed', message: messageOf(error), hint: null };
}

/** The lines that tell a person how the command ended. */
export function formatEnding(ending: Ending): string {
  const hint = ending.hint === null ? '' : `\n  ${ending.hint}`;
  // Configuration issues begin with file:line:column, which editors and people look for at the start of a line.
  const text = ending.kind === 'config' ? ending.message : `millrace: ${ending.message}`;
  return `${text}${hint}\n`;
}
