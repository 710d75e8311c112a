/**
 * Says when the process is about to run out of file descriptors: from then on connections, ports and captures are refused, and whoever is refused sees a closed connection
 * at most. Node raises the limit to the hard one when it starts.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Logger } from './log.ts';

const LOOK_MS = 5_000;
const MUCH = 0.9;
/** What was said is said again only when there were fewer in between. */
const ENOUGH = 0.75;

/** Open descriptors and how many there may be. @throws the error of node:fs, such as EMFILE when there is not one left */
function descriptors(): { open: number; limit: number } {
  const limit = Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Number.NaN);
  return { open: readdirSync('/proc/self/fd').length, limit };
}

/** Look now and then, until the returned function is called. */
export function watchDescriptors(log: Logger): () => void {
  let isSaid = false;
  const timer = setInterval(() => {
    let used = 1;
    let fields: object = {};
    try {
      const { open, limit } = descriptors();
      used = open / limit;
      fields = { open, limit };
    } catch {
      // There is not even one for looking.
    }
    if (used > MUCH && !isSaid) {
      isSaid = true;
      log.warn(
        fields,
        'file descriptors run out: connections, ports and captures will be refused; raise the limit (LimitNOFILE=, ulimit -Hn)',
      );
    } else if (used < ENOUGH && isSaid) {
      isSaid = false;
      log.info(fields, 'there are enough file descriptors again');
    }
  }, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
