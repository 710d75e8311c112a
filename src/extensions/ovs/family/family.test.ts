/** The families' own rules, request by request: what is set, told, refused, and to whom. */
import { expect, test } from 'vitest';
import type { MessageWriter } from '../../../netlink/index.ts';
import {
  Command,
  CtLimitCommand,
  DatapathAttribute as D,
  Family,
  Feature,
  FlowAttribute,
  Frame,
  Group,
  MeterAttribute as M,
  MeterCommand,
  VportAttribute as V,
  VportType,
} from '../abi.ts';
import { Attributes, u16At, u32At } from '../attributes.ts';
import { toOvsPort } from '../port-number.ts';
import { type Answer, MemoryWorld, Program, request } from '../testing-memory.ts';

const ACK = 4;
const ECHO = 8;
const DUMP = 0x300;

function start() {
  const world = new MemoryWorld();
  const program = new Program(world.server);
  const datapath = (command: number, index: number, write: (writer: MessageWriter) => void, flags = ECHO) =>
    program.request(request(Family.DATAPATH, command, flags, index, write));
  const vport = (command: number, write: (writer: MessageWriter) => void, flags = ECHO, index = 10) =>
    program.request(request(Family.VPORT, command, flags, index, write));
  datapath(Command.NEW, 0, (writer) => {
    writer.string(D.NAME, 'dp');
    writer.u32(D.UPCALL_PID, 0);
    writer.u32(D.USER_FEATURES, Feature.VPORT_PIDS);
  });
  const addPort = (name: string, type: number = VportType.NETDEV, more: (writer: MessageWriter) => void = () => {}) =>
    vport(Command.NEW, (writer) => {
      writer.string(V.NAME, name);
      writer.u32(V.TYPE, type);
      writer.u32(V.UPCALL_PID, 5);
      more(writer);
    })[0];
  return { world, program, datapath, vport, addPort };
}

function attributesOf(answer: Answer): Attributes {
  return new Attributes(answer.bytes, 24, answer.bytes.length, 12);
}

function listener(world: MemoryWorld, group: number): Program {
  const other = new Program(world.server);
  other.connection.onDatagram(new Uint8Array(Uint32Array.of(Frame.JOIN, group).buffer));
  return other;
}

test('answers to GET and to dumps are of command GET, changes of their own', () => {
  const { datapath, vport, addPort } = start();
  expect(addPort('eth1').bytes[16]).toBe(Command.NEW);
  expect(datapath(Command.GET, 10, () => {}, 0)[0].bytes[16]).toBe(Command.GET);
  expect(datapath(Command.SET, 10, () => {})[0].bytes[16]).toBe(Command.SET);
  const dumped = vport(Command.GET, () => {}, DUMP);
  expect(dumped.slice(0, -1).map(({ bytes }) => bytes[16])).toEqual([Command.GET, Command.GET]);
  expect(vport(Command.SET, (writer) => writer.u32(V.PORT_NO, 1))[0].bytes[16]).toBe(Command.SET);
  expect(vport(Command.DEL, (writer) => writer.u32(V.PORT_NO, 1))[0].bytes[16]).toBe(Command.DEL);
});

test('setting a datapath without features takes them all away; unknown ones change nothing', () => {
  const { world, datapath } = start();
  const features = () => world.server.datapaths.get(10)?.userFeatures;
  const set = (value: number) => datapath(Command.SET, 10, (writer) => writer.u32(D.USER_FEATURES, value))[0].errno;
  expect(set(Feature.VPORT_PIDS | Feature.TC_RECIRC_SHARING)).toBe(0);
  expect(set(0x8000_0000)).toBe(95);
  expect(features()).toBe(Feature.VPORT_PIDS | Feature.TC_RECIRC_SHARING);
  expect(datapath(Command.SET, 10, () => {})[0].errno).toBe(0);
  expect(features()).toBe(0);
});

test('the size of the mask cache is a power of two of at most 4096', () => {
  const { datapath } = start();
  const set = (size: number) => datapath(Command.SET, 10, (writer) => writer.u32(D.MASKS_CACHE_SIZE, size))[0];
  expect([4097, 100, 65_536].map((size) => set(size).errno)).toEqual([34, 12, 34]);
  for (const size of [0, 256, 4096]) expect(attributesOf(set(size)).u32(D.MASKS_CACHE_SIZE)).toBe(size);
});

test('a program that knows no features takes them away from the datapath that it finds', () => {
  const { world, program } = start();
  const old = request(Family.DATAPATH, Command.NEW, ECHO, 0, (writer) => {
    writer.string(D.NAME, 'dp');
    writer.u32(D.UPCALL_PID, 0);
  });
  old[17] = 1;
  expect(program.request(old)[0].errno).toBe(17);
  expect(world.server.datapaths.get(10)?.userFeatures).toBe(0);
});

test('sockets for processors count only with their feature, and are told again', () => {
  const { world, datapath } = start();
  const set = (features: number, pids: Uint8Array) =>
    datapath(Command.SET, 10, (writer) => {
      writer.u32(D.USER_FEATURES, features);
      writer.bytes(D.PER_CPU_PIDS, pids);
    })[0];
  const pids = new Uint8Array(Uint32Array.of(7, 8).buffer);
  expect(attributesOf(set(Feature.VPORT_PIDS, pids)).has(D.PER_CPU_PIDS)).toBe(false);
  expect(attributesOf(set(Feature.DISPATCH_UPCALL_PER_CPU, pids)).required(D.PER_CPU_PIDS)).toEqual(pids);
  expect(set(Feature.DISPATCH_UPCALL_PER_CPU, pids.subarray(0, 3)).errno).toBe(22);
  expect(world.server.datapaths.get(10)?.cpuPids).toEqual([7, 8]);
});

test('port number 0 stands for any, and a port tells all there is to it', () => {
  const { addPort } = start();
  const answer = addPort('eth1', VportType.NETDEV, (writer) => writer.u32(V.PORT_NO, 0));
  const attributes = attributesOf(answer);
  expect(attributes.u32(V.PORT_NO)).toBe(1);
  expect(attributes.u32(V.IFINDEX)).toBe(11);
  expect(attributes.required(V.STATS).length).toBe(64);
  expect(attributes.required(V.UPCALL_STATS).length).toBe(24);
  expect(attributes.has(V.NETNSID)).toBe(false);
});

test('a device in another namespace is told by the id of that, and a renamed one by its present name', () => {
  const { world, vport, addPort } = start();
  addPort('eth1');
  const device = world.devices.get('eth1');
  if (device === undefined) throw new Error('no device');
  device.namespaceId = 3;
  device.name = 'lan0';
  const byName = (name: string) => vport(Command.GET, (writer) => writer.string(V.NAME, name), 0)[0];
  const attributes = attributesOf(byName('lan0'));
  expect(attributes.u32(V.NETNSID)).toBe(3);
  expect(attributes.name(V.NAME, 15)).toBe('lan0');
  expect(byName('eth1').errno).toBe(19);
});

test('a port keeps type and options; its sockets change', () => {
  const { world, vport, addPort } = start();
  addPort('eth1');
  const set = (write: (writer: MessageWriter) => void) =>
    vport(Command.SET, (writer) => {
      writer.string(V.NAME, 'eth1');
      write(writer);
    })[0].errno;
  expect(set((writer) => writer.u32(V.TYPE, VportType.INTERNAL))).toBe(22);
  expect(set((writer) => writer.bytes(V.OPTIONS, new Uint8Array(0)))).toBe(95);
  expect(set((writer) => writer.u32(V.IFINDEX, 4))).toBe(95);
  expect(set((writer) => writer.bytes(V.UPCALL_PID, new Uint8Array(6)))).toBe(22);
  expect(set((writer) => writer.bytes(V.UPCALL_PID, new Uint8Array(Uint32Array.of(1, 2).buffer)))).toBe(0);
  expect(world.server.datapaths.get(10)?.ports.get(toOvsPort(1))?.upcallPids).toEqual([1, 2]);
});

test('a tunnel needs its UDP port, which no other of its kind has, and remembers group policies', () => {
  const { addPort } = start();
  const tunnel = (name: string, type: number, port: number, policies = false) =>
    addPort(name, type, (writer) => {
      const options = writer.beginNested(V.OPTIONS);
      writer.u16(1, port);
      if (policies) {
        const extension = writer.beginNested(2);
        writer.flag(1);
        writer.endNested(extension);
      }
      writer.endNested(options);
    });
  expect(addPort('vx', VportType.VXLAN).errno).toBe(22);
  const made = tunnel('vx', VportType.VXLAN, 4789, true);
  const options = attributesOf(made).required(V.OPTIONS);
  const fields = new Attributes(options, 0, options.length, 2);
  expect([u16At(fields.required(1), 0), fields.has(2)]).toEqual([4789, true]);
  expect(tunnel('vx2', VportType.VXLAN, 4789).errno).toBe(17);
  expect(tunnel('gnv', VportType.GENEVE, 4789).errno).toBe(0);
});

test('those of a group hear every change once; who asked and gets an answer does not hear it again', () => {
  const { world, program, addPort, vport } = start();
  const other = listener(world, Group.VPORT);
  program.connection.onDatagram(new Uint8Array(Uint32Array.of(Frame.JOIN, Group.VPORT).buffer));
  addPort('eth1');
  expect(program.take()).toEqual([]);
  vport(Command.SET, (writer) => writer.u32(V.PORT_NO, 1), 0);
  vport(Command.DEL, (writer) => writer.u32(V.PORT_NO, 1));
  const heard = other.take();
  expect(heard.map(({ bytes }) => bytes[16])).toEqual([Command.NEW, Command.SET, Command.DEL]);
  expect(attributesOf(heard[2]).u32(V.UPCALL_PID)).toBe(5);
  // The netlink address of who asked stands in the message, as in the kernel.
  expect(heard.map(({ sequence }) => sequence)).toEqual([9, 9, 9]);
});

test('a device that vanishes takes its port along, and the group hears of it', () => {
  const { world, addPort } = start();
  addPort('eth1');
  const other = listener(world, Group.VPORT);
  world.devices.get('eth1')?.vanish();
  const heard = other.take();
  expect(heard.map(({ type, bytes, sequence }) => [type, bytes[16], sequence])).toEqual([
    [Family.VPORT, Command.DEL, 0],
  ]);
  expect(attributesOf(heard[0]).name(V.NAME, 15)).toBe('eth1');
  expect(world.devices.get('eth1')?.isOpen).toBe(false);
  expect(world.server.datapaths.get(10)?.ports.size).toBe(1);
  world.devices.get('eth1')?.vanish();
  expect(other.take()).toEqual([]);
});

test('when the device of the local port vanishes, the datapath does', () => {
  const { world, addPort } = start();
  addPort('eth1');
  const other = listener(world, Group.DATAPATH);
  world.devices.get('dp')?.vanish();
  expect(other.take().map(({ type, bytes }) => [type, bytes[16]])).toEqual([[Family.DATAPATH, Command.DEL]]);
  expect(world.server.datapaths.size).toBe(0);
  expect(world.devices.get('eth1')?.isOpen).toBe(false);
});

test('a flow is set by its identifier without a key, unless actions come along', () => {
  const { program } = start();
  const set = (write: (writer: MessageWriter) => void) =>
    program.request(request(Family.FLOW, Command.SET, ACK, 10, write))[0].errno;
  expect(set(() => {})).toBe(22);
  expect(set((writer) => writer.bytes(FlowAttribute.UFID, new Uint8Array(4)))).toBe(2);
  expect(
    set((writer) => {
      writer.bytes(FlowAttribute.UFID, new Uint8Array(4));
      writer.bytes(FlowAttribute.ACTIONS, new Uint8Array(0));
    }),
  ).toBe(22);
});

test('limits of connections are set, told and taken back, by zone and for all', () => {
  const { program } = start();
  const zones = (...entries: number[]) => new Uint8Array(Uint32Array.from(entries).buffer);
  const limit = (command: number, content: Uint8Array | null) =>
    program.request(
      request(Family.CT_LIMIT, command, 0, 10, (writer) => {
        if (content !== null) writer.bytes(1, content);
      }),
    )[0];
  const get = (content: Uint8Array | null) => {
    const bytes = attributesOf(limit(CtLimitCommand.GET, content)).required(1);
    return Array.from({ length: bytes.length / 4 }, (_, i) => u32At(bytes, i * 4));
  };
  const all = 0xffff_ffff;
  expect(get(null)).toEqual([all, 0, 0]);
  expect(limit(CtLimitCommand.SET, zones(all, 50, 0, 3, 10, 0, 70_000, 1, 0)).type).toBe(Family.CT_LIMIT);
  expect(get(null)).toEqual([all, 50, 0, 3, 10, 0]);
  expect(get(zones(3, 0, 0, 4, 0, 0))).toEqual([3, 10, 0, 4, 50, 0]);
  expect(limit(CtLimitCommand.SET, null).errno).toBe(22);
  limit(CtLimitCommand.DEL, zones(3, 0, 0, all, 0, 0));
  expect(get(null)).toEqual([all, 0, 0]);
});

test('a meter tells what the one before it has counted, and bands that do not drop only count', () => {
  const { world, program } = start();
  const set = (type: number, clear = false) =>
    program.request(
      request(Family.METER, MeterCommand.SET, 0, 10, (writer) => {
        writer.u32(M.ID, 1);
        if (clear) writer.flag(M.CLEAR);
        const bands = writer.beginNested(M.BANDS);
        const band = writer.beginNested(0);
        writer.u32(1, type);
        writer.u32(2, 1);
        writer.u32(3, 2);
        writer.endNested(band);
        writer.endNested(bands);
      }),
    )[0];
  expect(attributesOf(set(1)).has(M.STATS)).toBe(false);
  const meters = world.server.datapaths.get(10)?.meters;
  expect([1, 2, 3].map(() => meters?.allows(1, 100, 1000))).toEqual([true, true, false]);
  expect(meters?.allows(1, 100, 2000)).toBe(true);
  const before = attributesOf(set(2));
  expect(u32At(before.required(M.STATS), 0)).toBe(4);
  expect(u32At(before.required(M.USED), 0)).toBe(2000);
  expect([1, 2, 3, 4].map(() => meters?.allows(1, 100, 3000))).toEqual([true, true, true, true]);
});
