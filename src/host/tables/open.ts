/** Opens the tables of a network namespace: its sockets, each in the groups that it is for. */
import { NetlinkProtocol } from '../../netlink/index.ts';
import type { EventLoop } from '../loop.ts';
import { NetlinkSocket } from '../netlink-socket.ts';
import { NetworkNamespace, SystemError } from '../sys/index.ts';
import { INTERFACE_GROUPS } from './interfaces.ts';
import { LinuxTables, type TablesSockets } from './linux-tables.ts';
import { NEIGHBOUR_GROUPS } from './neighbour-news.ts';
import { openPathErrorSocket, type PathErrorSocket } from './path-errors.ts';
import { BELL_BUFFER_BYTES, BELL_GROUPS } from './route-bell.ts';

/** Some thousand notifications. */
const RECEIVE_BUFFER_BYTES = 1 << 20;

export interface HostTablesOptions {
  /** Told what people should know, seldom. */
  warn?(message: string): void;
  /** The file of the network namespace; that of the thread when left out. */
  readonly namespacePath?: string;
  /** Room for notifications that wait; a megabyte when left out. */
  readonly receiveBufferBytes?: number;
}

/**
 * The host's tables, kept up to date on an event loop until they are closed.
 * @throws SystemError when sockets cannot be opened, or the namespace not entered
 */
export function openHostTables(loop: EventLoop, options: HostTablesOptions = {}): LinuxTables {
  const { warn = () => {}, namespacePath, receiveBufferBytes = RECEIVE_BUFFER_BYTES } = options;
  const open = () => {
    const sockets = openSockets(receiveBufferBytes, warn);
    return new LinuxTables({ loop, sockets, warn, nowMs: () => performance.now() });
  };
  if (namespacePath === undefined) return open();
  const namespace = NetworkNamespace.byPath(namespacePath);
  try {
    return namespace.run(open);
  } finally {
    namespace.close();
  }
}

function openSockets(receiveBufferBytes: number, warn: (message: string) => void): TablesSockets {
  const opened: { close(): void }[] = [];
  const own = <Resource extends { close(): void }>(resource: Resource): Resource => {
    opened.push(resource);
    return resource;
  };
  try {
    return {
      questions: own(new NetlinkSocket(NetlinkProtocol.ROUTE)),
      bell: own(
        new NetlinkSocket(NetlinkProtocol.ROUTE, { groups: BELL_GROUPS, receiveBufferBytes: BELL_BUFFER_BYTES }),
      ),
      interfaces: own(new NetlinkSocket(NetlinkProtocol.ROUTE, { groups: INTERFACE_GROUPS, receiveBufferBytes })),
      neighbours: own(new NetlinkSocket(NetlinkProtocol.ROUTE, { groups: NEIGHBOUR_GROUPS, receiveBufferBytes })),
      errors: [false, true].flatMap((isIpv6) => openErrors(isIpv6, warn).map(own)),
    };
  } catch (error) {
    for (const resource of opened) resource.close();
    throw error;
  }
}

/** Without them path MTU is what Linux learns by itself. */
function openErrors(isIpv6: boolean, warn: (message: string) => void): PathErrorSocket[] {
  try {
    return [openPathErrorSocket(isIpv6)];
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    // A host without IPv6 is told nothing of it either.
    if (!isIpv6) warn(`path MTU is not learned from ICMP: ${error.message}`);
    return [];
  }
}
