/** host/: Linux: system calls, epoll, packet sockets, TAPs, namespaces. The only door of this room. */
export { type Isolation, type IsolationMeans, isolate } from './isolation.ts';
export { EventLoop, type LoopHandler, type LoopOptions, type Poller, type WakeHandler } from './loop.ts';
export { openPacketSocket, PacketSocket, type PacketSocketOptions } from './packet-socket.ts';
export type { PortAdapter, PortCounters, PortState } from './port.ts';
export * from './sys/index.ts';
export { Timer, type TimerHandler, Timers } from './timers.ts';
export { wakeLoop } from './wake.ts';
