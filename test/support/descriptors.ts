/** All file descriptors that this process may have, taken: whoever wants one fails with EMFILE. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';

/** As many as it takes to run another program, whatever this one has open: that is how they are given back. */
const FOR_A_PROGRAM = 16;

export class TakenDescriptors {
  readonly #taken: number[] = [];
  /** How many there may be otherwise. */
  readonly #usual = /Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? '';

  constructor() {
    limit(Math.max(...readdirSync('/proc/self/fd').map(Number)) + 1 + FOR_A_PROGRAM);
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
  const { status, stderr, error } = spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${number}:`]);
  if (status !== 0) throw new Error(`prlimit has failed: ${error?.message ?? stderr}`);
}
