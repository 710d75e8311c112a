/** All file descriptors that this process may have, taken: whoever wants one fails with EMFILE. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';

export class TakenDescriptors {
  readonly #taken: number[] = [];
  /** How many there may be otherwise. */
  readonly #usual = /Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? '';

  constructor() {
    limit(Math.max(...readdirSync('/proc/self/fd').map(Number)) + 1);
    try {
      for (;;) this.#taken.push(openSync('/dev/null', 'r'));
    } catch (error) {
      if (Object(error).code !== 'EMFILE') throw error;
    }
  }

  /** Let some be had. */
  spare(count: number): void {
    for (const fd of this.#taken.splice(this.#taken.length - count)) closeSync(fd);
  }

  /** Everything is as before. */
  end(): void {
    this.spare(this.#taken.length);
    limit(this.#usual);
  }
}

function limit(number: number | string): void {
  const { status } = spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${number}:`]);
  if (status !== 0) throw new Error('prlimit has failed');
}
