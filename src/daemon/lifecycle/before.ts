/** Before a daemon's start: whether the place of its socket can be had, and the file that it logs to. Neighbours: lock.ts; log.ts writes the lines. */
import { constants, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  checkSafeFolder,
  ForeignFileError,
  isAbandonedSocket,
  keepsNamespace,
  kindOf,
  makeSafeFolder,
  openOwnFile,
} from '../../host/index.ts';
import { findPins, puntPathOf } from '../../keeper/index.ts';
import { Failure } from '../rpc/failure.ts';

const { O_WRONLY, O_APPEND, O_CREAT } = constants;
const LOG_MODE = 0o640;

/**
 * Make sure that the socket's place is free, or holds a stale socket of this user, and that nobody else's things are in the places of what a daemon
 * keeps beside it, before anything is made there.
 * @throws Failure 'refused', naming what is there
 */
export function checkSocketPlace(socketPath: string): void {
  try {
    checkSafeFolder(dirname(socketPath));
    isAbandonedSocket(socketPath);
    // What a daemon keeps beside it: pins, and the namespace of its punt channel.
    findPins(socketPath);
    keepsNamespace(puntPathOf(socketPath));
  } catch (error) {
    if (error instanceof ForeignFileError) throw new Failure('refused', error.message, error.hint);
    throw error;
  }
}

/**
 * Open a log to append to; it and its folder are made when they are missing.
 * @param isNamed by the user, who may name a link or a device. A place that follows from the socket's must be a file of this user's own.
 * @returns a descriptor, which the caller closes
 * @throws Failure
 */
export function openLogFile(path: string, isNamed: boolean): number {
  const hint = 'run as root, or choose other places with --socket and --log-file';
  try {
    if (isNamed) {
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
      const there = statSync(path, { throwIfNoEntry: false });
      // Opening or writing a pipe waits for its reader.
      if (there !== undefined && !there.isFile() && !there.isCharacterDevice()) {
        const is = `is ${kindOf(there)}, and neither an ordinary file nor a terminal`;
        throw new ForeignFileError(path, is, 'name another place');
      }
      return openSync(path, O_WRONLY | O_APPEND | O_CREAT, LOG_MODE);
    }
    makeSafeFolder(dirname(path));
    return openOwnFile(path, O_WRONLY | O_APPEND | O_CREAT, LOG_MODE);
  } catch (error) {
    if (error instanceof ForeignFileError) {
      throw new Failure('refused', `cannot write the log: ${error.message}`, `${error.hint}: --log-file`);
    }
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    const kind = code === 'EACCES' || code === 'EPERM' ? 'privilege' : 'failed';
    throw new Failure(kind, `cannot write the log ${path}: ${code}`, hint);
  }
}
