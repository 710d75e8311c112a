/** Who is at the other end of a connection over a Unix socket, for both of its ends. */
import type { Socket } from 'node:net';
import { peerCredentials } from '../../host/sys/index.ts';

/** A process at the other end of a Unix socket, as SO_PEERCRED tells. */
export interface Peer {
  pid: number;
  uid: number;
  gid: number;
}

/** @returns null when it cannot be told: the connection has ended */
export function peerOf(socket: Socket): Peer | null {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
  if (fd === undefined || fd < 0) return null;
  try {
    return peerCredentials(fd);
  } catch {
    return null;
  }
}
