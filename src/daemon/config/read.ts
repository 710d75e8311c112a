/** Reading the text of a configuration file: an ordinary one of bounded length, so that nothing waits for a pipe, or reads a device without end. */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';

/** A request to the control socket carries no more. */
const MAX_CONFIG_BYTES = 1 << 20;

/** @throws the error of node:fs; Error that says what is wrong with the file, without its name */
export function readConfigText(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile())
      throw new Error(`it is ${stats.isDirectory() ? 'a folder' : 'a pipe or a device'}, and not an ordinary file`);
    if (stats.size > MAX_CONFIG_BYTES) throw new Error(`it is longer than ${MAX_CONFIG_BYTES} bytes`);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}
