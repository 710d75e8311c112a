/**
 * How often a program is handed to the verifier: it gives way to signals, and its log needs a buffer whose length nobody knows before.
 * load.ts makes the attempts.
 */
import { Errno } from '../sys/bpf.ts';

/** What an attempt came to: a descriptor, or a negative error number. */
export interface LoadAnswer {
  readonly result: number;
  readonly log: string;
}

/** Signals that a load puts up with. A profiler sends one every millisecond. */
const INTERRUPTIONS = 100;
const FIRST_LOG_BYTES = 1 << 16;
const LAST_LOG_BYTES = 1 << 28;

/**
 * Try until something is known: again as it was when a signal came between, and with a larger buffer when the log did not fit.
 * @param attempt makes one attempt with a log of so many bytes, or with none for 0
 * @param hasLog whether there is to be a log
 */
export function tryUntilAnswered(attempt: (logBytes: number) => LoadAnswer, hasLog: boolean): LoadAnswer {
  let logBytes = hasLog ? FIRST_LOG_BYTES : 0;
  for (let interruptions = 0; ; ) {
    const answer = attempt(logBytes);
    if (answer.result === -Errno.EAGAIN && interruptions < INTERRUPTIONS) interruptions += 1;
    // Linux 6.4 keeps the end of a log that is too long, and says ENOSPC as older ones do.
    else if (answer.result === -Errno.ENOSPC && hasLog && logBytes < LAST_LOG_BYTES) logBytes *= 4;
    else return answer;
  }
}
