/**
 * The daemon begins anew without ending: when its datapath thread is stuck or has died, the process replaces itself by a new one under the same
 * number (host/replace-process.ts). That ends a thread wherever it is, also inside of a system call, and gives back every descriptor and mapping that
 * it had. Flows in the kernel go on meanwhile, and are taken up as after a kill.
 *
 * What the new process is told travels in a file in memory, whose descriptor an environment variable names. The lock and the listening socket are
 * handed on as they are: no other daemon can come in between, and whoever connects meanwhile waits. TAPs are handed on, too, so that their devices stay
 * (host/left-taps.ts).
 */
import { closeSync, readFileSync, writeSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { memoryFile, replaceProcess, tapDescriptors } from '../../host/index.ts';
import type { DaemonEvent } from '../api.ts';
import type { Former } from '../control/control.ts';
import type { Trouble } from './thread-watch.ts';

const VARIABLE = 'MILLRACE_RENEWAL';

/** What one process of a daemon tells the next. */
export interface Renewal extends Former {
  /** When the daemon began, by its first process. */
  readonly startedAt: Date;
  readonly events: readonly DaemonEvent[];
  /** When the datapath failed without an extension that is to blame, in milliseconds since 1970. */
  readonly faults: readonly number[];
  /** Open descriptors: of the lock, of the name that says that the daemon lives (-1 for none), and of the control socket. */
  readonly lock: number;
  readonly life: number;
  readonly socket: number;
}

/** More faults than this within {@link FAULTS_MS} that no extension is to blame for, and the daemon ends. */
const MAX_FAULTS = 3;
const FAULTS_MS = 60_000;

/**
 * What is to be different the next time, after a fault.
 * @param nowMs since 1970
 * @returns null when it has been tried often enough
 */
export function afterTrouble(
  { extension, message }: Trouble,
  { heldBack, faults }: Pick<Renewal, 'heldBack' | 'faults'>,
  nowMs: number,
): Pick<Renewal, 'heldBack' | 'faults'> | null {
  // Somebody has started it: one that is held back does not start by itself.
  if (extension !== null) {
    return { heldBack: new Map(heldBack).set(extension, message), faults };
  }
  const lately = [...faults.filter((ms) => nowMs - ms < FAULTS_MS), nowMs];
  return lately.length > MAX_FAULTS ? null : { heldBack, faults: lately };
}

/** What the process before has left for this one. Asked once. @returns null for a daemon that starts */
export function takeRenewal(): Renewal | null {
  const descriptor = process.env[VARIABLE];
  if (descriptor === undefined) return null;
  delete process.env[VARIABLE];
  const fd = Number(descriptor);
  try {
    return deserialize(readFileSync(`/proc/self/fd/${fd}`)) as Renewal;
  } finally {
    closeSync(fd);
  }
}

/**
 * Become the next process. Returns only when that fails.
 * @throws SystemError
 */
export function renew(renewal: Renewal): never {
  const { lock, life, socket } = renewal;
  const file = memoryFile('millrace-renewal');
  const bytes = serialize(renewal);
  for (let at = 0; at < bytes.length; ) at += writeSync(file.number, bytes, at);
  process.env[VARIABLE] = String(file.number);
  const args = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  try {
    replaceProcess(process.execPath, args, [file.number, lock, life, socket, ...tapDescriptors()]);
  } finally {
    delete process.env[VARIABLE];
    file.close();
  }
}
