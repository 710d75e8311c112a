/** host/: Linux: system calls, epoll, packet sockets, TAPs, namespaces. The only door of this room. */
export * from './sys/index.ts';
