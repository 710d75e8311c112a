/** Mounts of this process, as proc_pid_mountinfo(5) lists them: what lies at a path, and whether it is a mount of its own. */
import { closeSync, constants, openSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

const { O_NOFOLLOW, O_NONBLOCK } = constants;
// Of Linux; node:fs does not name it.
const O_PATH = 0o10000000;

/** A mount. */
export interface Mount {
  readonly id: number;
  /** Which part of the file system is shown: `/` is all of it, anything else a bind mount of a part. */
  readonly root: string;
  /** Where it is mounted. */
  readonly point: string;
  readonly type: string;
  /** What was given as its source. */
  readonly source: string;
}

/**
 * The mount that begins at a path, the uppermost if there are several; null when the path lies within a mount, or is not there.
 * @throws the error of node:fs, such as EACCES
 */
export function mountAt(path: string): Mount | null {
  const id = mountIdOf(path);
  if (id === null) return null;
  const line = readFileSync('/proc/thread-self/mountinfo', 'utf8')
    .split('\n')
    .find((one) => one.startsWith(`${id} `));
  if (line === undefined) return null;
  const mount = parseMount(line);
  return mount?.point === placeOf(path) ? mount : null;
}

/** One line of mountinfo; null when it is none. */
export function parseMount(line: string): Mount | null {
  const [left, right] = line.split(' - ', 2);
  const [id, , , root, point] = left.split(' ');
  const [type, source] = (right ?? '').split(' ');
  if (point === undefined || source === undefined) return null;
  return { id: Number(id), root: unescaped(root), point: unescaped(point), type, source: unescaped(source) };
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

function mountIdOf(path: string): number | null {
  let fd: number;
  try {
    fd = openSync(path, O_PATH | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : null;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw error;
  }
  try {
    const id = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/thread-self/fdinfo/${fd}`, 'utf8'))?.[1];
    return id === undefined ? null : Number(id);
  } finally {
    closeSync(fd);
  }
}

/** A path without links on its way; its last name stays. */
function placeOf(path: string): string {
  const whole = resolve(path);
  return whole === '/' ? whole : join(realpathSync(dirname(whole)), basename(whole));
}
