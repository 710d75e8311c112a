#!/usr/bin/env node
// Without a handler of one's own Node opens its inspector at SIGUSR1: on a TCP port, for every user of the machine. Nothing else is to run before.
process.on('SIGUSR1', () => {});

const { main } = await import('../dist/cli/main.js');
await main(process.argv.slice(2));
