/**
 * Which ports share a capture file that one of them writes: they would write into each other's packets, or play what they write. A file is what its path
 * leads to, by whichever name.
 */
import { readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { Port } from './model.ts';

/** Links that lead to each other. */
const MOST_LINKS = 40;

/** A text that two paths have in common when they lead to one file, be it there or not yet. */
function identityOf(path: string): string {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return placeOf(path);
  }
}

/** Where a file that is not there would be made. */
function placeOf(path: string): string {
  let place = path;
  for (let links = 0; links < MOST_LINKS; links += 1) {
    const folder = dirname(place);
    try {
      place = join(realpathSync(folder), basename(place));
      place = resolve(dirname(place), readlinkSync(place));
    } catch {
      return place;
    }
  }
  return place;
}

/**
 * Why a port cannot have its capture files beside the others; null when it can.
 * @param others by name; an entry of the port's own name is not looked at
 */
export function captureFileProblem(name: string, port: Port, others: Iterable<readonly [string, Port]>): string | null {
  if (port.kind !== 'pcap') return null;
  const { read, write } = port;
  const reading = read === undefined ? null : identityOf(read);
  const writing = write === undefined ? null : identityOf(write);
  if (reading !== null && reading === writing) return `it would write ${write}, which it reads`;
  for (const [otherName, other] of others) {
    if (otherName === name || other.kind !== 'pcap') continue;
    const otherWriting = other.write === undefined ? null : identityOf(other.write);
    if (writing !== null && writing === otherWriting)
      return `it would write ${write}, which port "${otherName}" writes`;
    if (reading !== null && reading === otherWriting) return `it would read ${read}, which port "${otherName}" writes`;
    if (writing !== null && other.read !== undefined && writing === identityOf(other.read))
      return `it would write ${write}, which port "${otherName}" reads`;
  }
  return null;
}
