/** Where the control socket is when nobody says. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Longest path of a Unix socket (sun_path of unix(7), with its terminating zero). */
export const MAX_SOCKET_PATH_BYTES = 107;

/** MILLRACE_SOCKET if set; /run/millrace/millrace.sock for root; else millrace.sock in the user's runtime folder, or in ~/.millrace. */
export function defaultSocketPath(env: NodeJS.ProcessEnv = process.env, uid = process.geteuid?.() ?? 0): string {
  if (env.MILLRACE_SOCKET !== undefined && env.MILLRACE_SOCKET !== '') return env.MILLRACE_SOCKET;
  if (uid === 0) return '/run/millrace/millrace.sock';
  return join(env.XDG_RUNTIME_DIR ?? join(homedir(), '.millrace'), 'millrace.sock');
}
