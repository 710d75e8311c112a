/**
 * Whether a daemon lives, whatever has become of the files beside its socket. A daemon has a name from its beginning to its end that follows from the path
 * of its socket and is no file (host/living-name.ts). It is in the network namespace of the daemon's ports.
 */
import { createHash } from 'node:crypto';
import {
  type FileDescriptor,
  ForeignFileError,
  NetworkNamespace,
  ownerOfLivingName,
  takeLivingName,
} from '../../host/index.ts';
import { namespaceOfPins, ownNamespace } from '../../keeper/index.ts';

function nameOf(socketPath: string): string {
  return `daemon/${createHash('sha256').update(socketPath).digest('hex').slice(0, 32)}`;
}

/**
 * Take the name of a socket's daemon.
 * @returns closing it gives the name back; null when another process has it
 */
export function beginLife(socketPath: string): FileDescriptor | null {
  return takeLivingName(nameOf(socketPath));
}

/** A daemon that lives: its process, null for one that cannot be seen from here. */
export interface Life {
  readonly pid: number | null;
}

/**
 * The daemon of a socket that lives in the calling thread's network namespace, or in that of the interfaces whose programs are pinned.
 * @returns null when there is none. A name that a process of another user has says nothing: everybody may take one.
 */
export function lifeOf(socketPath: string): Life | null {
  return lifeHere(socketPath) ?? lifeElsewhere(socketPath);
}

/** As {@link lifeOf}, in other namespaces than the calling thread's. */
export function lifeElsewhere(socketPath: string): Life | null {
  const link = namespaceOf(socketPath);
  if (link === null || link === ownNamespace()) return null;
  const namespace = NetworkNamespace.find(link);
  if (namespace === null) return null;
  try {
    return namespace.run(() => lifeHere(socketPath));
  } finally {
    namespace.close();
  }
}

/** What somebody else has put in the place of pins tells nothing. */
function namespaceOf(socketPath: string): string | null {
  try {
    return namespaceOfPins(socketPath);
  } catch (error) {
    if (error instanceof ForeignFileError) return null;
    throw error;
  }
}

function lifeHere(socketPath: string): Life | null {
  const there = ownerOfLivingName(nameOf(socketPath));
  if (there === null || (there.uid !== 0 && there.uid !== (process.geteuid?.() ?? 0))) return null;
  return { pid: there.pid === 0 ? null : there.pid };
}
