/** Dumps in parts, as a program sees them that reads slowly, and while the table changes under them. */
import { expect, test } from 'vitest';
import { PutMode, parseActions, parseFlowKey } from '../../../flow/index.ts';
import { Command, DONE_GOES_ON, Family, Frame } from '../abi.ts';
import { u16At, u32At } from '../attributes.ts';
import { framesOf, MemoryWorld, messages, request } from '../testing-memory.ts';
import { PART_MAXIMUM_BYTES, PART_MINIMUM_BYTES } from './dump.ts';

const DUMP = 0x300;
const DONE = 3;
const ERROR = 2;

function put(world: MemoryWorld, datapath: string, number: number): void {
  const found = [...world.server.datapaths.values()].find(({ name }) => name === datapath);
  if (found === undefined) throw new Error(datapath);
  const { key, mask } = parseFlowKey(
    `in_port(1),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x0800),ipv4(src=10.0.${number >> 8}.${number & 255},dst=1.1.1.1,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)`,
  );
  const ufid = new Uint8Array(16).fill(1);
  ufid[0] = number;
  ufid[1] = number >> 8;
  const slot = found.flows.table.put({ key, mask, actions: parseActions('2'), ufid, mode: PutMode.CREATE });
  expect(slot).toBeGreaterThanOrEqual(0);
}

/** A program that takes part by part. */
class Reader {
  readonly frames: Uint8Array[] = [];
  readonly connection;
  room = Number.POSITIVE_INFINITY;

  constructor(world: MemoryWorld) {
    this.connection = world.server.device.accept({
      send: (frame) => {
        if (this.room <= 0) return false;
        this.room -= 1;
        this.frames.push(...framesOf(frame.slice()));
        return true;
      },
      close: () => this.connection.onClose(),
    });
    this.frames.length = 0;
  }

  send(datagram: Uint8Array): void {
    this.connection.onDatagram(Uint8Array.of(Frame.DATAGRAM, 0, 0, 0, ...datagram));
  }

  more(roomBytes: number): void {
    this.connection.onDatagram(new Uint8Array(Uint32Array.of(Frame.MORE, roomBytes).buffer));
  }

  /** The datagrams that have come, and whether the last "done" said that a dump goes on. */
  take() {
    const frames = this.frames.splice(0);
    const datagrams = frames.filter((frame) => frame[0] === Frame.DATAGRAM).map((frame) => frame.slice(4));
    const done = frames.findLast((frame) => frame[0] === Frame.DONE);
    return { datagrams, goesOn: done !== undefined && u32At(done, 8) === DONE_GOES_ON };
  }
}

function ready(flows: number) {
  const world = new MemoryWorld();
  const { interfaceIndex } = world.server.addDatapath('dp');
  for (let i = 0; i < flows; i += 1) put(world, 'dp', i);
  const reader = new Reader(world);
  const dump = request(Family.FLOW, Command.GET, DUMP, interfaceIndex);
  return { world, reader, dump, interfaceIndex };
}

/** The first two bytes of the identifier of every flow in some datagrams: its number. */
function flowNumbers(datagrams: readonly Uint8Array[]): number[] {
  return datagrams
    .flatMap(messages)
    .filter(({ type }) => type === Family.FLOW)
    .map(({ bytes }) => u16At(bytes, 28));
}

test('a dump comes in parts that the reader has room for, one for each time that it asks', () => {
  const { reader, dump } = ready(1000);
  reader.send(dump);
  const first = reader.take();
  expect(first.datagrams.length).toBe(1);
  expect(first.datagrams[0].length).toBeLessThanOrEqual(PART_MINIMUM_BYTES);
  expect(first.goesOn).toBe(true);
  const all = [...first.datagrams];
  const rooms = [0, 100, 8192, 70_000];
  for (let goesOn = true; goesOn; ) {
    const room = rooms[all.length % rooms.length];
    reader.more(room);
    const part = reader.take();
    expect(part.datagrams.length).toBe(1);
    expect(part.datagrams[0].length).toBeLessThanOrEqual(
      Math.min(PART_MAXIMUM_BYTES, Math.max(PART_MINIMUM_BYTES, room)),
    );
    all.push(...part.datagrams);
    goesOn = part.goesOn;
  }
  expect(flowNumbers(all).sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
  expect(messages(all.at(-1) ?? new Uint8Array(0)).at(-1)?.type).toBe(DONE);
  reader.more(8192);
  expect(reader.take()).toEqual({ datagrams: [], goesOn: false });
});

test('flows that are there all the time are met once, whatever comes and goes meanwhile', () => {
  const { world, reader, dump } = ready(600);
  const [datapath] = world.server.datapaths.values();
  reader.send(dump);
  let { datagrams, goesOn } = reader.take();
  const seen = flowNumbers(datagrams);
  for (let round = 0; goesOn; round += 1) {
    for (let i = 0; i < 10; i += 1) {
      const victim = datapath.flows.table.next(500 + round * 3);
      if (victim >= 500 && victim < 600) datapath.flows.table.remove(victim);
      put(world, 'dp', 2000 + round * 10 + i);
    }
    reader.more(4096);
    ({ datagrams, goesOn } = reader.take());
    seen.push(...flowNumbers(datagrams));
  }
  expect(new Set(seen).size).toBe(seen.length);
  for (let i = 0; i < 500; i += 1) expect(seen).toContain(i);
});

test('a program that does not read has one part waiting for it, and others are answered', () => {
  const { world, reader, dump, interfaceIndex } = ready(2000);
  reader.room = 0;
  reader.send(dump);
  for (let i = 0; i < 3; i += 1) reader.connection.onWritable();
  expect(reader.frames).toEqual([]);
  const other = new Reader(world);
  other.send(request(Family.DATAPATH, Command.GET, 0, interfaceIndex));
  expect(other.take().datagrams.length).toBe(1);
  reader.room = Number.POSITIVE_INFINITY;
  reader.connection.onWritable();
  expect(reader.take().datagrams.map((datagram) => datagram.length <= PART_MINIMUM_BYTES)).toEqual([true]);
});

test('while a dump goes on another is EBUSY, and other requests are answered', () => {
  const { reader, dump, interfaceIndex } = ready(200);
  reader.send(dump);
  reader.take();
  reader.send(dump);
  const [busy] = reader.take().datagrams.flatMap(messages);
  expect([busy.type, busy.errno]).toEqual([ERROR, 16]);
  reader.send(request(Family.DATAPATH, Command.GET, 0, interfaceIndex));
  const answer = reader.take();
  expect([answer.datagrams.flatMap(messages)[0].type, answer.goesOn]).toEqual([Family.DATAPATH, true]);
});

test('a dump whose datapath goes away ends with ENODEV', () => {
  const { world, reader, dump } = ready(200);
  reader.send(dump);
  reader.take();
  const [datapath] = world.server.datapaths.values();
  world.server.removeDatapath(datapath);
  reader.more(4096);
  const { datagrams, goesOn } = reader.take();
  const last = datagrams.flatMap(messages).at(-1);
  expect(goesOn).toBe(false);
  expect(last?.type).toBe(DONE);
  expect(u32At(last?.bytes ?? new Uint8Array(20), 16) | 0).toBe(-19);
});

test('a connection that closes in the middle of a dump leaves nothing behind', () => {
  const { world, reader, dump } = ready(200);
  reader.send(dump);
  reader.connection.onClose();
  reader.more(4096);
  expect(world.server.device.size).toBe(0);
});
