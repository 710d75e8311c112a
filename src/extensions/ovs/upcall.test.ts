/** Upcalls: every attribute that openvswitch.ko sends, where it comes from, and which socket hears it. */
import { expect, test } from 'vitest';
import { parseActions, parseFlowKey } from '../../flow/index.ts';
import { Batch, Checksum, Gso } from '../../net/index.ts';
import type { MessageWriter } from '../../netlink/index.ts';
import {
  Command,
  DatapathAttribute,
  Family,
  Feature,
  FlowAttribute,
  PacketAttribute as P,
  PacketCommand,
  PacketHash,
  VportAttribute,
  VportType,
} from './abi.ts';
import { Attributes, u16At, u32At } from './attributes.ts';
import { type Answer, MemoryWorld, Program, request } from './testing-memory.ts';
import { encodeActions } from './translate/actions.ts';
import { encodeKey } from './translate/key-encode.ts';

const ECHO = 8;
const CREATE = 0x400;
const ACK = 4;
const MATCH = 'in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)';

/** A UDP frame of a connection. */
function frame(connection = 1, payloadBytes = 40): Uint8Array {
  const bytes = new Uint8Array(42 + payloadBytes);
  const view = new DataView(bytes.buffer);
  bytes.set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0, 0x45, 0]);
  view.setUint16(16, 28 + payloadBytes);
  bytes.set([64, 17], 22);
  bytes.set([10, 0, 0, 1, 10, 0, 0, 2], 26);
  view.setUint16(34, 1000 + connection);
  view.setUint16(36, 53);
  view.setUint16(38, 8 + payloadBytes);
  return bytes;
}

/** A datapath with ports 1 and 2, port 1's upcalls going to the sockets of programs. */
function ready(options: { features?: number; perCpu?: boolean; sockets?: number } = {}) {
  const world = new MemoryWorld();
  const control = new Program(world.server);
  const programs = Array.from({ length: options.sockets ?? 1 }, () => new Program(world.server));
  const pids = new Uint8Array(Uint32Array.from(programs, ({ connection }) => connection.port).buffer);
  control.request(
    request(Family.DATAPATH, Command.NEW, ECHO, 0, (writer) => {
      writer.string(DatapathAttribute.NAME, 'dp');
      writer.u32(DatapathAttribute.UPCALL_PID, 0);
      writer.u32(DatapathAttribute.USER_FEATURES, options.features ?? Feature.VPORT_PIDS);
      if (options.perCpu === true) writer.bytes(DatapathAttribute.PER_CPU_PIDS, pids);
    }),
  );
  for (const name of ['eth1', 'eth2']) {
    control.request(
      request(Family.VPORT, Command.NEW, ECHO, 10, (writer) => {
        writer.string(VportAttribute.NAME, name);
        writer.u32(VportAttribute.TYPE, VportType.NETDEV);
        writer.bytes(VportAttribute.UPCALL_PID, pids);
      }),
    );
  }
  return { world, control, programs, program: programs[0] };
}

function arrive(
  world: MemoryWorld,
  bytes: Uint8Array,
  change: (packet: ReturnType<typeof allocate>) => void = () => {},
) {
  const packet = allocate(world, bytes.length);
  packet.bytes.set(bytes, packet.offset);
  packet.length = bytes.length;
  change(packet);
  const batch = new Batch();
  batch.push(packet);
  world.devices.get('eth1')?.receive(batch);
}

function allocate(world: MemoryWorld, lengthBytes: number) {
  const packet = (lengthBytes > world.pool.maxFrameBytes ? world.largePool : world.pool).allocate();
  if (packet === null) throw new Error('no buffer');
  return packet;
}

function attributesOf(answer: Answer): Attributes {
  return new Attributes(answer.bytes, 24, answer.bytes.length, P.UPCALL_PID);
}

function order(answer: Answer): number[] {
  const types: number[] = [];
  for (let at = 24; at < answer.bytes.length; at += (u16At(answer.bytes, at) + 3) & ~3) {
    types.push(u16At(answer.bytes, at + 2) & 0x3fff);
  }
  return types;
}

function putFlow(program: Program, actions: string, match = MATCH): void {
  const { key, mask } = parseFlowKey(match);
  const answers = program.request(
    request(Family.FLOW, Command.NEW, CREATE | ACK, 10, (writer) => {
      encodeKey(writer, FlowAttribute.KEY, key, key);
      encodeKey(writer, FlowAttribute.MASK, key, mask);
      encodeActions(writer, FlowAttribute.ACTIONS, parseActions(actions));
    }),
  );
  expect(answers.map(({ errno }) => errno)).toEqual([0]);
}

function execute(
  program: Program,
  key: Uint8Array,
  actions: string,
  write: (writer: MessageWriter) => void = () => {},
) {
  return program.request(
    request(Family.PACKET, PacketCommand.EXECUTE, ACK, 10, (writer) => {
      writer.bytes(P.PACKET, frame());
      writer.bytes(P.KEY, key);
      encodeActions(writer, P.ACTIONS, parseActions(actions));
      write(writer);
    }),
  );
}

test('a miss carries key, hash and packet, in this order; equal connections have equal hashes, others have others', () => {
  const { world, program } = ready();
  for (const connection of [1, 1, 2]) arrive(world, frame(connection));
  const upcalls = program.take();
  expect(upcalls.map(({ bytes }) => bytes[16])).toEqual([PacketCommand.MISS, PacketCommand.MISS, PacketCommand.MISS]);
  expect(order(upcalls[0])).toEqual([P.KEY, P.HASH, P.PACKET]);
  const hashes = upcalls.map((upcall) => attributesOf(upcall).required(P.HASH, 8));
  expect(hashes.map((hash) => u32At(hash, 4))).toEqual(Array(3).fill(PacketHash.SOFTWARE | PacketHash.LAYER_4));
  expect(u32At(hashes[0], 0)).toBe(u32At(hashes[1], 0));
  expect(u32At(hashes[0], 0)).not.toBe(u32At(hashes[2], 0));
});

test('an action carries userdata, the tunnel that it leads to, the actions of its list, and how long the packet was', () => {
  const { world, control, program } = ready();
  control.request(
    request(Family.VPORT, Command.NEW, ECHO, 10, (writer) => {
      writer.string(VportAttribute.NAME, 'vx');
      writer.u32(VportAttribute.TYPE, VportType.VXLAN);
      writer.u32(VportAttribute.UPCALL_PID, 0);
      writer.u32(VportAttribute.PORT_NO, 7);
      const options = writer.beginNested(VportAttribute.OPTIONS);
      writer.u16(1, 4789);
      writer.endNested(options);
    }),
  );
  const pid = program.connection.port;
  const list = `set(tunnel(tun_id=0x5,dst=1.2.3.4,ttl=64,flags(key))),trunc(60),userspace(pid=${pid},userdata(010203),tunnel_out_port=7,actions)`;
  putFlow(control, list);
  arrive(world, frame());
  const [upcall] = program.take();
  expect(upcall.bytes[16]).toBe(PacketCommand.ACTION);
  expect(order(upcall)).toEqual([P.KEY, P.USERDATA, P.EGRESS_TUN_KEY, P.ACTIONS, P.LEN, P.HASH, P.PACKET]);
  const attributes = attributesOf(upcall);
  expect([...attributes.required(P.USERDATA)]).toEqual([1, 2, 3]);
  expect(attributes.u32(P.LEN)).toBe(frame().length);
  expect(attributes.required(P.PACKET).length).toBe(60);
  const tunnel = attributes.required(P.EGRESS_TUN_KEY);
  const fields = new Attributes(tunnel, 0, tunnel.length, 14);
  expect([...fields.required(2)]).toEqual([1, 2, 3, 4]);
  expect([...fields.required(10)]).toEqual([4789 >> 8, 4789 & 255]);
  expect(u16At(fields.required(9), 0)).toBeGreaterThan(0);
});

test('a tunnel port that does not exist is not told of', () => {
  const { world, control, program } = ready();
  putFlow(
    control,
    `set(tunnel(dst=1.2.3.4,ttl=64)),userspace(pid=${program.connection.port},userdata(01),tunnel_out_port=9)`,
  );
  arrive(world, frame());
  expect(order(program.take()[0])).toEqual([P.KEY, P.USERDATA, P.HASH, P.PACKET]);
});

test('what a program says of a packet that it executes is in the upcalls that come of it', () => {
  const { world, control, program, programs } = ready({ sockets: 2 });
  arrive(world, frame());
  const [miss] = programs.flatMap((each) => each.take());
  const key = attributesOf(miss).required(P.KEY).slice();
  const pid = program.connection.port;
  const hash = new Uint8Array(Uint32Array.of(0x1234_5678, PacketHash.LAYER_4).buffer);
  execute(control, key, `userspace(pid=${pid},userdata(01))`, (writer) => {
    writer.u16(P.MRU, 1400);
    writer.bytes(P.HASH, hash);
  });
  const [told] = program.take();
  expect(order(told)).toEqual([P.KEY, P.USERDATA, P.MRU, P.HASH, P.PACKET]);
  expect(u16At(attributesOf(told).required(P.MRU), 0)).toBe(1400);
  expect(attributesOf(told).required(P.HASH)).toEqual(hash);
  // Also through a recirculation that finds no flow, and to the socket that the program names.
  const other = programs[1].connection.port;
  execute(control, key, 'recirc(0x77)', (writer) => {
    writer.bytes(P.HASH, hash);
    writer.u32(P.UPCALL_PID, other);
  });
  const [again] = programs[1].take();
  expect(again.bytes[16]).toBe(PacketCommand.MISS);
  expect(attributesOf(again).required(P.HASH)).toEqual(hash);
  // The next packet has nothing of it.
  arrive(world, frame(9));
  const [plain] = programs.flatMap((each) => each.take());
  expect(order(plain)).toEqual([P.KEY, P.HASH, P.PACKET]);
  expect(attributesOf(plain).required(P.HASH)).not.toEqual(hash);
});

test('what is executed with an MRU over IPv6 leaves in fragments with an identification of its own for each packet', () => {
  const { world, control } = ready();
  const bytes = new Uint8Array(54 + 8 + 3000);
  const view = new DataView(bytes.buffer);
  bytes.set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd, 0x60]);
  view.setUint16(18, bytes.length - 54);
  bytes.set([17, 64], 20);
  view.setUint16(58, bytes.length - 54);
  const { key } = parseFlowKey('in_port(1),eth(),eth_type(0x86dd),ipv6(proto=17,frag=no),udp()');
  const identifications = Array.from({ length: 8 }, () => {
    control.request(
      request(Family.PACKET, PacketCommand.EXECUTE, ACK, 10, (writer) => {
        writer.bytes(P.PACKET, bytes);
        encodeKey(writer, P.KEY, key, key);
        encodeActions(writer, P.ACTIONS, parseActions('2'));
        writer.u16(P.MRU, 1400);
      }),
    );
    const sent = world.devices.get('eth2')?.sent.splice(0) ?? [];
    expect(sent.map((each) => each.length > 62 && each.length <= 1414 && each[20])).toEqual([44, 44, 44]);
    const own = new Set(sent.map((each) => Buffer.from(each).readUInt32BE(58)));
    expect(own.size).toBe(1);
    return [...own][0];
  });
  expect(new Set(identifications).size).toBe(identifications.length);
  expect(world.pool.available).toBe(world.pool.capacity);
});

test('with a socket list for each port, a connection keeps its socket and connections spread over them', () => {
  const { world, programs } = ready({ sockets: 4 });
  for (let round = 0; round < 2; round += 1) {
    for (let connection = 0; connection < 64; connection += 1) arrive(world, frame(connection));
  }
  const heard = programs.map((program) => program.take().map((upcall) => u16At(upcallPort(upcall), 0)));
  expect(heard.every((ports) => ports.length > 0)).toBe(true);
  expect(heard.flat().length).toBe(128);
  // Both packets of a connection went the same way.
  for (const ports of heard) expect(ports.length).toBe(new Set(ports).size * 2);
});

test('with sockets for processors, port lists and the pid of actions do not count', () => {
  const features = Feature.DISPATCH_UPCALL_PER_CPU | Feature.VPORT_PIDS;
  const { world, control, programs } = ready({ features, perCpu: true, sockets: 3 });
  control.request(
    request(Family.VPORT, Command.SET, ECHO, 10, (writer) => {
      writer.u32(VportAttribute.PORT_NO, 1);
      writer.u32(VportAttribute.UPCALL_PID, control.connection.port);
    }),
  );
  for (let connection = 0; connection < 32; connection += 1) arrive(world, frame(connection));
  putFlow(control, `userspace(pid=${control.connection.port},userdata(01))`);
  for (let connection = 0; connection < 32; connection += 1) arrive(world, frame(connection));
  expect(control.take()).toEqual([]);
  const heard = programs.map((program) => program.take());
  expect(heard.every((upcalls) => upcalls.length > 0)).toBe(true);
  expect(heard.flat().filter(({ bytes }) => bytes[16] === PacketCommand.ACTION).length).toBe(32);
});

test('upcalls that nobody hears are lost, and counted at the datapath and at the port', () => {
  const { world, control, program } = ready();
  arrive(world, frame());
  program.connection.onClose();
  arrive(world, frame());
  const [answer] = control.request(
    request(Family.VPORT, Command.GET, 0, 10, (writer) => writer.string(VportAttribute.NAME, 'eth1')),
  );
  const statistics = new Attributes(answer.bytes, 24, answer.bytes.length, 10).required(VportAttribute.UPCALL_STATS);
  const counts = new Attributes(statistics, 0, statistics.length, 1);
  expect([u32At(counts.required(0), 0), u32At(counts.required(1), 0)]).toEqual([1, 1]);
  expect(world.server.datapaths.get(10)?.flows.statistics().lost).toBe(1);
  expect(world.pool.available).toBe(world.pool.capacity);
});

test('a super-packet goes up in segments with whole checksums; fragments of a datagram say which they are', () => {
  const { world, program } = ready();
  arrive(world, frame(1, 3000), (packet) => {
    packet.gsoType = Gso.UDP;
    packet.gsoSizeBytes = 1480;
    packet.headerLengthBytes = 42;
    packet.checksum = Checksum.PARTIAL;
    packet.checksumStart = 34;
    packet.checksumOffset = 6;
  });
  const upcalls = program.take();
  expect(upcalls.length).toBe(3);
  // IPV4's last byte is the kind of fragment: 1 for the first, 2 for later ones.
  const kinds = upcalls.map((upcall) => {
    const key = attributesOf(upcall).required(P.KEY);
    return new Attributes(key, 0, key.length, 31).required(7)[11];
  });
  expect(kinds).toEqual([1, 2, 2]);
  expect(world.largePool.available).toBe(world.largePool.capacity);
});

/** Source port of an upcall's packet. */
function upcallPort(upcall: Answer): Uint8Array {
  return attributesOf(upcall).required(P.PACKET).subarray(34, 36);
}
