/** test/support/: what scenario tests share. lab.ts has namespaces and processes, forwarding.ts frames and adapters, descriptors.ts a process that can open nothing more. */
export * from './descriptors.ts';
export * from './forwarding.ts';
export * from './lab.ts';
