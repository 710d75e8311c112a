/** Errors of the rooms below as failures of the control socket: the kind for programs, the sentence and the advice for people. */
import { SystemError } from '../../host/index.ts';
import { KeeperError } from '../../keeper/index.ts';
import { RuleError, SwitchError, type SwitchErrorCode } from '../../switch/index.ts';
import { Failure, type FailureKind, toFailure } from '../rpc/failure.ts';

const KIND_BY_ERRNO: Readonly<Record<string, FailureKind>> = {
  EPERM: 'privilege',
  EACCES: 'privilege',
  ENODEV: 'not-found',
  ENXIO: 'not-found',
  ENOENT: 'not-found',
  EBUSY: 'exists',
  EEXIST: 'exists',
};

const KIND_BY_SWITCH_CODE: Readonly<Partial<Record<SwitchErrorCode, FailureKind>>> = {
  NOT_FOUND: 'not-found',
  EXISTS: 'exists',
  INVALID: 'invalid-params',
  STATE: 'refused',
  VETOED: 'refused',
  BUSY: 'busy',
  CLOSED: 'busy',
};

/** The failure that tells of anything the rooms below throw. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof SystemError) {
    const kind = KIND_BY_ERRNO[error.code] ?? 'failed';
    // Their messages end with the advice in brackets; here it has a line of its own.
    return new Failure(kind, error.finding, error.advice === '' ? null : error.advice);
  }
  if (error instanceof SwitchError) return new Failure(KIND_BY_SWITCH_CODE[error.code] ?? 'failed', error.message);
  if (error instanceof KeeperError) return new Failure(error.kind, error.message, error.hint);
  if (error instanceof RuleError) return new Failure('refused', error.message);
  if (error instanceof RangeError) return new Failure('invalid-params', error.message);
  return toFailure(error);
}
