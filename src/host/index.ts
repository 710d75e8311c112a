/** host/: Linux: system calls, epoll, packet sockets, TAPs, namespaces. The only door of this room. */
export {
  hasOwnBpfFileSystem,
  isBpfFileSystem,
  mountBpfFileSystem,
  unmountBpfFileSystem,
} from './bpf-file-system.ts';
export { DownDevice } from './down-device.ts';
export { REDIRECT_MARK } from './drop-program.ts';
export { type Isolation, type IsolationMeans, isolate } from './isolation.ts';
export { closeLeftTaps, findLeftTaps, isTapLeft, tapDescriptors } from './left-taps.ts';
export type { LinkEvent, LinkProperty, LinkState, MovedTo } from './link-state.ts';
export { LinkWatch, pollLinks } from './link-watch.ts';
export { forgetAskers, ownerOfLivingName, takeLivingName } from './living-name.ts';
export {
  EventLoop,
  type LoopHandler,
  type LoopOptions,
  type LoopPulse,
  type Poller,
  type WakeHandler,
} from './loop.ts';
export { mountAt } from './mounts.ts';
export {
  createNamespace,
  deleteNamespace,
  inUserNamespace,
  keepsNamespace,
  userNamespaceProblem,
} from './namespace.ts';
export { NetlinkSocket } from './netlink-socket.ts';
export {
  checkSafeFolder,
  ForeignFileError,
  isOwnFolder,
  kindOf,
  lookAt,
  makeSafeFolder,
  openOwnFile,
} from './own-files.ts';
export { RECORD_MARK } from './packet-rx-ring.ts';
export { openPacketSocket, PacketSocket, type PacketSocketOptions } from './packet-socket.ts';
export type { PortAdapter, PortCounters, PortState } from './port.ts';
export {
  openPuntChannel,
  type PuntChannel,
  type PuntChannelOptions,
  type PuntClaim,
  type PuntCounters,
  type PuntHandler,
  type PuntRecord,
  type PuntTrouble,
} from './punt-channel.ts';
export { removeLeftPuntPair } from './punt-pair.ts';
export { memoryFile, ownDescriptors, replaceProcess } from './replace-process.ts';
export { RouteClient, withRouteClient } from './route-client.ts';
export {
  SeqpacketConnection,
  type SeqpacketHandler,
  SeqpacketServer,
  type SeqpacketServerOptions,
} from './seqpacket-server.ts';
export { bindSocketFile, isAbandonedSocket, type SocketFile, socketFileAt } from './socket-file.ts';
export * from './sys/index.ts';
export { type HostTablesOptions, type LinuxTables, openHostTables, type TablesReport } from './tables/index.ts';
export { openTap, Tap, type TapOptions } from './tap.ts';
export { TimeShare } from './time-share.ts';
export { Timer, type TimerHandler, Timers } from './timers.ts';
export { wakeLoop } from './wake.ts';
