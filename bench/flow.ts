/**
 * The flow table in memory: look-ups a second with one mask and with eight over 100,000 flows, extraction of the key included;
 * flows put a second; memory of a flow. Short runs: the figures are for comparing with themselves.
 */
import { performance } from 'node:perf_hooks';
import { Datapath, extract, FlowKey, FlowTable, KEY_WORDS, PutMode, parseActions, Word } from '../src/flow/index.ts';
import { Batch, ClonePool, Packet, PacketPool, Region, toKeyPort } from '../src/net/index.ts';

/** Figures of one number of flows and masks. */
export interface FlowBench {
  flows: number;
  masks: number;
  /** Packets a second through extraction and look-up, each packet of another flow than the one before. */
  lookupsPerSecond: number;
  /** As above, but with a flow cache too small to be of use: what a look-up through the masks costs. */
  uncachedLookupsPerSecond: number;
  /** Share of look-ups that the flow cache answered. */
  cacheHitShare: number;
  flowsPutPerSecond: number;
  /** All of the table by the number of flows, with spare room and cache. */
  bytesPerFlow: number;
  /** Packets a second through a datapath: as above, then a set of the TTL and an output. */
  datapathPacketsPerSecond: number;
  /** What the JavaScript heap grew by while the datapath ran. */
  heapGrowthBytes: number;
}

export const FRAME_BYTES = 64;

/** UDP frames, one a flow, behind each other in one region; the flow's number is in the addresses. */
export function makeFrames(count: number): Packet {
  const bytes = new Uint8Array(count * FRAME_BYTES);
  for (let i = 0; i < count; i += 1) {
    const at = i * FRAME_BYTES;
    bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0], at);
    bytes.set(
      [10, i >>> 16, (i >>> 8) & 0xff, i & 0xff, 172, 16, i & 7, (i >>> 3) & 0xff, 0x10, i & 0xff, 0, 53, 0, 30, 0, 0],
      at + 26,
    );
  }
  const packet = new Packet({ recycle: () => {} }, new Region(bytes.buffer), 0);
  packet.length = FRAME_BYTES;
  packet.limit = bytes.length;
  packet.references = 1;
  return packet;
}

/** Eight masks as Open vSwitch makes them: port and EtherType always, then ever more of the addresses and ports. */
function makeMasks(count: number): Uint32Array[] {
  return Array.from({ length: count }, (_, i) => {
    const mask = new Uint32Array(KEY_WORDS);
    mask[Word.RECIRC_ID] = 0xffff_ffff;
    mask[Word.IN_PORT] = 0xffff_ffff;
    mask[Word.ETH_TYPE] = 0xffff_00ff;
    mask[Word.IP] = 0xff00_00ff;
    mask[Word.IPV4_SOURCE] = 0xffff_ffff;
    mask[Word.IPV4_DESTINATION] = 0xffff_ff00;
    if ((i & 1) !== 0) mask[Word.PORTS] = 0x0000_ffff;
    if ((i & 2) !== 0) mask[Word.MAC] = 0xffff_ffff;
    if ((i & 4) !== 0) mask[Word.VLAN] = 0xffff_ffff;
    return mask;
  });
}

/** @param options.seconds length of each measurement */
export function benchFlows(options: { flows?: number; masks?: number; seconds?: number } = {}): FlowBench {
  const flows = options.flows ?? 100_000;
  const seconds = options.seconds ?? 1;
  const masks = makeMasks(options.masks ?? 8);
  const packet = makeFrames(flows);
  const key = new FlowKey();
  const table = new FlowTable();
  const actions = parseActions('set(ipv4(ttl=63)),2');
  const ufid = new Uint8Array(16);
  const view = new DataView(ufid.buffer);

  const putStart = performance.now();
  for (let i = 0; i < flows; i += 1) {
    packet.offset = i * FRAME_BYTES;
    key.begin(toKeyPort(1));
    extract(packet, key);
    view.setUint32(0, i);
    const slot = table.put({ key: key.words, mask: masks[i % masks.length], actions, ufid, mode: PutMode.CREATE });
    if (slot < 0) throw new Error(`flow ${i} was not put: ${slot}`);
  }
  const putSeconds = (performance.now() - putStart) / 1000;

  const lookupsPerSecond = measure(table, key, packet, flows, seconds);
  const cacheHitShare = table.cacheHits / table.hits;
  const uncached = new FlowTable({ cacheEntries: 4 });
  for (let i = 0; i < flows; i += 1) {
    packet.offset = i * FRAME_BYTES;
    key.begin(toKeyPort(1));
    extract(packet, key);
    view.setUint32(0, i);
    uncached.put({ key: key.words, mask: masks[i % masks.length], actions, ufid, mode: PutMode.CREATE });
  }
  return {
    flows,
    masks: masks.length,
    lookupsPerSecond,
    uncachedLookupsPerSecond: measure(uncached, key, packet, flows, seconds),
    cacheHitShare,
    flowsPutPerSecond: flows / putSeconds,
    bytesPerFlow: table.memoryBytes / flows,
    ...measureDatapath(table, packet, flows, seconds),
  };
}

function measureDatapath(table: FlowTable, packet: Packet, flows: number, seconds: number) {
  let sent = 0;
  const datapath = new Datapath({
    hooks: {
      output: () => {
        sent += 1;
      },
    },
    nowMs: () => 1,
    pool: new PacketPool({ packets: 16, bufferBytes: 2048 }),
    clones: new ClonePool(16),
    table,
  });
  const batch = new Batch();
  let flow = 0;
  const run = (packets: number) => {
    for (let i = 0; i < packets; i += 1) {
      packet.offset = flow * FRAME_BYTES;
      packet.references = 1;
      batch.push(packet);
      datapath.receive(batch, toKeyPort(1));
      flow = (flow + 7919) % flows;
    }
  };
  run(flows);
  sent = 0;
  const heap = process.memoryUsage().heapUsed;
  const start = performance.now();
  while (performance.now() - start < seconds * 1000) run(10_000);
  const elapsed = (performance.now() - start) / 1000;
  return {
    datapathPacketsPerSecond: sent / elapsed,
    heapGrowthBytes: process.memoryUsage().heapUsed - heap,
  };
}

/** Packets a second; every packet is one of another flow, and neighbours in memory do not follow each other. */
function measure(table: FlowTable, key: FlowKey, packet: Packet, flows: number, seconds: number): number {
  const step = 7919;
  let flow = 0;
  let done = 0;
  let found = 0;
  const run = (packets: number) => {
    for (let i = 0; i < packets; i += 1) {
      packet.offset = flow * FRAME_BYTES;
      key.begin(toKeyPort(1));
      extract(packet, key);
      const slot = table.lookup(key);
      if (slot !== -1) {
        found += 1;
        table.count(slot, FRAME_BYTES, 0, 1);
      }
      flow = (flow + step) % flows;
    }
    done += packets;
  };
  run(flows * 2);
  done = 0;
  found = 0;
  const start = performance.now();
  while (performance.now() - start < seconds * 1000) run(10_000);
  const elapsed = (performance.now() - start) / 1000;
  if (found !== done) throw new Error(`${done - found} of ${done} packets found no flow`);
  return done / elapsed;
}
