/** test/support/: what scenario tests share. lab.ts has namespaces and processes, forwarding.ts frames and adapters. */
export * from './forwarding.ts';
export * from './lab.ts';
