/** Programs, maps and links of anybody by their ids. Neighbours: link/query.ts tells what sits on an interface. */
import { closeDescriptor } from '../../host/sys/index.ts';
import { type ProgramInfo, readProgramInfo } from '../program/program.ts';
import { Attributes, bpf, Errno, failure } from '../sys/bpf.ts';
import { COMMAND } from '../uapi/commands.ts';
import { type LinkInfo, readLinkInfo } from './link.ts';

/** Look into an object that may go away meanwhile. @returns undefined when it has */
function withId<T>(command: number, id: number, look: (fd: number) => T): T | undefined {
  const attributes = new Attributes(12);
  attributes.u32[0] = id;
  const fd = bpf(command, attributes, 12);
  if (fd === -Errno.ENOENT) return undefined;
  if (fd < 0) throw failure(command, fd, `open the object with id ${id}`);
  try {
    return look(fd);
  } finally {
    closeDescriptor(fd);
  }
}

/** What the kernel says of a program, by its id. @returns undefined when there is none @throws PrivilegeError, SystemError */
export function programInfoById(id: number): ProgramInfo | undefined {
  return withId(COMMAND.PROG_GET_FD_BY_ID, id, readProgramInfo);
}

/** What the kernel says of a link, by its id. @returns undefined when there is none @throws PrivilegeError, SystemError */
export function linkInfoById(id: number): LinkInfo | undefined {
  return withId(COMMAND.LINK_GET_FD_BY_ID, id, readLinkInfo);
}

function* ids(command: number): Generator<number, void, undefined> {
  const attributes = new Attributes(12);
  for (let id = 0; ; id = attributes.u32[1]) {
    attributes.u32[0] = id;
    const result = bpf(command, attributes, 12);
    if (result === -Errno.ENOENT) return;
    if (result < 0) throw failure(command, result, 'list objects');
    yield attributes.u32[1];
  }
}

/** The ids of all programs. @throws PrivilegeError, SystemError */
export function programIds(): Generator<number, void, undefined> {
  return ids(COMMAND.PROG_GET_NEXT_ID);
}

/** The ids of all maps. @throws PrivilegeError, SystemError */
export function mapIds(): Generator<number, void, undefined> {
  return ids(COMMAND.MAP_GET_NEXT_ID);
}

/** The ids of all links (Linux 5.8). @throws PrivilegeError, SystemError */
export function linkIds(): Generator<number, void, undefined> {
  return ids(COMMAND.LINK_GET_NEXT_ID);
}
