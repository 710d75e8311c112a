/** Tables of flows in the kernel come, grow and go: what this process holds is then what it was, with no turn of Node's event loop in between. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FlowTable, PutMode, parseActions, parseFlowKey } from '../src/flow/index.ts';
import { mappedMemory, openDescriptors } from '../src/host/sys/index.ts';
import { toInterfaceIndex, toKeyPort } from '../src/net/index.ts';
import { FlowOffload } from '../src/offload/index.ts';

const TIMES = 200;

const flows = Array.from({ length: 20 }, (_, i) =>
  parseFlowKey(`recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.${i},proto=17,frag=no)`),
);

/** Tables whose flows need larger ones, and their end. */
function comeAndGo(): void {
  let nowMs = 1000;
  const table = new FlowTable({ cacheEntries: 64 });
  const offload = new FlowOffload({ table, nowMs: () => nowMs, install: () => undefined, initialEntries: 16 });
  // No hook is in use, so that no program has to be made; flows wait for a port that has one.
  offload.setPort({
    ifindex: toInterfaceIndex(1),
    number: toKeyPort(1),
    hook: null,
    tapLike: false,
    puntIfindex: 0,
    output: true,
    xdpOutput: true,
  });
  for (const { key, mask } of flows) {
    table.put({ key, mask, actions: parseActions('1'), ufid: null, mode: PutMode.CREATE });
  }
  offload.placement.wanted.entries = 64;
  for (let turn = 0; turn < 3; turn += 1) {
    nowMs += 10;
    offload.poll();
  }
  expect(offload.maps.sizes.entries).toBe(64);
  table.flush();
  offload.close();
}

/** Of this process, as the kernel counts. */
function held() {
  return {
    ...mappedMemory(),
    owned: openDescriptors(),
    descriptors: readdirSync('/proc/self/fd').length,
    ofMaps: readFileSync('/proc/self/maps', 'utf8').split('anon_inode:bpf-map').length - 1,
  };
}

test(`${TIMES} tables that come, grow and go leave no memory, mapping, descriptor or map`, () => {
  for (let time = 0; time < 20; time += 1) comeAndGo();
  const before = { ...held(), rss: process.memoryUsage().rss };
  for (let time = 0; time < TIMES; time += 1) comeAndGo();
  const { rss, ...counts } = before;
  expect(held()).toEqual(counts);
  // Each has some three megabytes mapped.
  expect(process.memoryUsage().rss - rss).toBeLessThan(60e6);
});
