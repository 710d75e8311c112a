/**
 * The running kernel understands what src/netlink writes, and src/netlink understands what it answers: links, addresses, neighbours, routes,
 * traffic control and the generic netlink controller, in a network namespace of the test's own.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addressOf, bindLibc, check, closeDescriptor, NativeBlock, rawBpf } from '../src/host/sys/index.ts';
import {
  AddressFamily,
  addAddress,
  addBpfFilter,
  addClsact,
  addNeighbour,
  addRoute,
  Clsact,
  DIRECT_ACTION,
  deleteAddress,
  deleteClsact,
  deleteFilter,
  deleteLink,
  deleteNeighbour,
  deleteRoute,
  dumpAddresses,
  dumpFilters,
  dumpLinks,
  dumpNeighbours,
  dumpQdiscs,
  dumpRoutes,
  getFamily,
  getLink,
  getRoute,
  type Link,
  LinkFlag,
  type Message,
  MessageWriter,
  NetlinkProtocol,
  newBridge,
  newLink,
  newVeth,
  parseAddress,
  parseFamily,
  parseFilter,
  parseLink,
  parseMessages,
  parseNeighbour,
  parseQdisc,
  parseRoute,
  parseRouteEvent,
  type Request,
  RtnlGroup,
  setLink,
  splitFilterInfo,
  Transaction,
} from '../src/netlink/index.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_NETLINK = 270;
const CLONE_NEWNET = 0x4000_0000;

const socketCall = bindLibc<[number, number, number]>('int socket(int domain, int type, int protocol)');
const bindCall = bindLibc<[number, Uint8Array, number]>('int bind(int fd, const void *address, uint32_t length)');
const sendCall = bindLibc<[number, Uint8Array, number, number]>(
  'intptr_t send(int fd, const void *bytes, size_t length, int flags)',
);
const receiveCall = bindLibc<[number, Uint8Array, number, number]>(
  'intptr_t recv(int fd, void *bytes, size_t length, int flags)',
);
const setOption = bindLibc<[number, number, number, Uint8Array, number]>(
  'int setsockopt(int fd, int level, int option, const void *value, uint32_t length)',
);
const setNamespace = bindLibc<[number, number]>('int setns(int fd, int type)');

const name = `nlk${process.pid}`;
let sequence = 1;

/** A blocking netlink socket that was made inside the namespace and stays there. */
class Socket {
  readonly fd: number;
  readonly #buffer = new Uint8Array(64 * 1024);
  readonly #writer = new MessageWriter();

  constructor(protocol: number, groups = 0) {
    const outside = openSync('/proc/self/ns/net', 'r');
    const inside = openSync(`/run/netns/${name}`, 'r');
    try {
      check(setNamespace(inside, CLONE_NEWNET), 'setns', 'enter the namespace');
      this.fd = check(socketCall(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol), 'socket', 'open netlink');
    } finally {
      check(setNamespace(outside, CLONE_NEWNET), 'setns', 'come back');
      closeSync(inside);
      closeSync(outside);
    }
    const address = Buffer.alloc(12);
    address.writeUInt16LE(AF_NETLINK, 0);
    address.writeUInt32LE(groups, 8);
    check(bindCall(this.fd, address, 12), 'bind', 'bind netlink');
    const one = new Uint8Array([1, 0, 0, 0]);
    const NETLINK_EXT_ACK = 11;
    const NETLINK_GET_STRICT_CHK = 12;
    check(setOption(this.fd, SOL_NETLINK, NETLINK_EXT_ACK, one, 4), 'setsockopt', 'ask for extended errors');
    check(setOption(this.fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, one, 4), 'setsockopt', 'ask for strict checks');
  }

  receive(): Message[] {
    const length = check(receiveCall(this.fd, this.#buffer, this.#buffer.length, 0), 'recv', 'read netlink');
    return parseMessages(this.#buffer, length);
  }

  /** Run a request to its end. */
  run(request: Request): Transaction {
    const transaction = new Transaction(request, sequence);
    sequence += 1;
    this.#writer.reset();
    transaction.encode(this.#writer);
    check(sendCall(this.fd, this.#writer.view(), this.#writer.length, 0), 'send', request.doing);
    for (;;) {
      for (const message of this.receive()) {
        const progress = transaction.offer(message);
        if (progress === 'done' || progress === 'failed') return transaction;
      }
    }
  }

  /** Run a request that must succeed; gives its replies. */
  expect(request: Request): Message[] {
    const transaction = this.run(request);
    expect(transaction.failure?.text ?? '').toBe('');
    return transaction.replies;
  }

  link(selector: string | number): Link {
    const [reply] = this.expect(getLink(selector));
    return parseLink(reply);
  }

  close(): void {
    closeDescriptor(this.fd);
  }
}

let socket: Socket;
beforeAll(() => {
  execFileSync('ip', ['netns', 'add', name]);
  socket = new Socket(NetlinkProtocol.ROUTE);
  socket.expect(newVeth('base', { name: 'below' }, { up: true }));
  socket.expect(setLink(socket.link('below').index, { up: true }));
});
afterAll(() => {
  socket?.close();
  execFileSync('ip', ['netns', 'delete', name]);
});

const ip = (...words: string[]): Record<string, unknown>[] =>
  JSON.parse(execFileSync('ip', ['-n', name, '-json', '-details', ...words], { encoding: 'utf8' }) || '[]');

test('a veth pair is created, found by both names and read as iproute2 reads it', () => {
  const macAddress = new Uint8Array([2, 0, 0, 0, 0, 0x11]);
  socket.expect(newVeth('left', { name: 'right', mtuBytes: 1400 }, { macAddress, mtuBytes: 1600, up: true }));
  const left = socket.link('left');
  const right = socket.link('right');
  expect(left).toMatchObject({ name: 'left', mtuBytes: 1600, linkedIndex: right.index, hardwareType: 1 });
  expect(right).toMatchObject({ name: 'right', mtuBytes: 1400, linkedIndex: left.index });
  expect(left.info?.kind).toBe('veth');
  expect(left.macAddress).toEqual(macAddress);
  expect(left.flags & LinkFlag.UP).toBe(LinkFlag.UP);
  expect(left.statistics?.receivedPackets).toBe(0);

  const [seen] = ip('link', 'show', 'dev', 'left');
  expect(seen).toMatchObject({
    ifindex: left.index,
    mtu: left.mtuBytes,
    txqlen: left.transmitQueueLength,
    promiscuity: left.promiscuity,
    gso_max_size: left.gsoMaxBytes,
    gro_max_size: left.groMaxBytes,
    num_tx_queues: left.transmitQueues,
    min_mtu: left.minMtuBytes,
    max_mtu: left.maxMtuBytes,
    address: '02:00:00:00:00:11',
  });
  expect(socket.expect(dumpLinks()).map((message) => parseLink(message).name)).toEqual([
    'lo',
    'below',
    'base',
    'right',
    'left',
  ]);
});

test('bridge and macvlan carry the data of their kind', () => {
  socket.expect(newBridge('br', { stpState: 0, ageingTimeCentiseconds: 12_300, groupForwardMask: 0x4000 }));
  const index = socket.link('base').index;
  socket.expect(newLink({ name: 'mac', linkedIndex: index, info: { kind: 'macvlan', macvlan: { mode: 4 } } }));
  expect(socket.link('br').info?.bridge).toMatchObject({
    stpState: 0,
    ageingTimeCentiseconds: 12_300,
    groupForwardMask: 0x4000,
  });
  expect(socket.link('mac')).toMatchObject({ linkedIndex: index, info: { kind: 'macvlan', macvlan: { mode: 4 } } });
  const named = socket.expect(dumpLinks({ kind: 'macvlan' })).map((message) => parseLink(message).name);
  expect(named).toEqual(['mac']);
});

test('a link is renamed, re-mastered, made promiscuous, resized and taken down', () => {
  socket.expect(newVeth('before', { name: 'beyond' }, { up: true }));
  const { index } = socket.link('before');
  const master = socket.link('br').index;
  socket.expect(setLink(index, { name: 'after', mtuBytes: 1280, masterIndex: master, promiscuous: true, up: false }));
  const link = socket.link(index);
  expect(link).toMatchObject({ name: 'after', mtuBytes: 1280, masterIndex: master, info: { portKind: 'bridge' } });
  expect(link.promiscuity).toBe(2);
  expect(link.flags & (LinkFlag.UP | LinkFlag.PROMISC)).toBe(LinkFlag.PROMISC);
  socket.expect(setLink(index, { masterIndex: 0, promiscuous: false }));
  expect(socket.link(index).masterIndex).toBeUndefined();
  expect(socket.link(index).promiscuity).toBe(0);
  socket.expect(deleteLink(index));
  expect(socket.run(getLink(index)).failure?.errno).toBe(19);
});

test('a link moves into the namespace that a descriptor refers to', () => {
  const other = `${name}b`;
  execFileSync('ip', ['netns', 'add', other]);
  try {
    socket.expect(newVeth('stay', { name: 'go' }));
    const fd = openSync(`/run/netns/${other}`, 'r');
    socket.expect(setLink(socket.link('go').index, { namespaceDescriptor: fd, name: 'gone' }));
    closeSync(fd);
    expect(socket.link('stay').linkNamespaceId).toBeTypeOf('number');
    expect(socket.run(getLink('go')).failure?.errno).toBe(19);
    expect(execFileSync('ip', ['-n', other, '-o', 'link'], { encoding: 'utf8' })).toContain('gone');
  } finally {
    execFileSync('ip', ['netns', 'delete', other]);
  }
});

test('alternative names are read, and find the link', () => {
  execFileSync('ip', ['-n', name, 'link', 'property', 'add', 'dev', 'base', 'altname', 'a-name-of-many-characters']);
  const link = socket.link('a-name-of-many-characters');
  expect(link.name).toBe('base');
  expect(link.properties?.alternativeNames).toEqual(['a-name-of-many-characters']);
});

test('addresses of both families are added, listed per interface, and removed', () => {
  const { index } = socket.link('base');
  const ipv4 = { index, prefixLength: 24, local: new Uint8Array([10, 9, 8, 7]) };
  const ipv6 = { index, prefixLength: 64, local: new Uint8Array([0xfd, ...new Array<number>(14).fill(0), 1]) };
  socket.expect(addAddress(ipv4));
  socket.expect(addAddress(ipv6));
  expect(socket.run(addAddress(ipv4)).failure?.errno).toBe(17);
  const listed = socket.expect(dumpAddresses({ index })).map(parseAddress);
  expect(listed.every((address) => address.index === index)).toBe(true);
  expect(listed.find((address) => address.family === AddressFamily.INET)).toMatchObject({
    ...ipv4,
    label: 'base',
    scope: 0,
    lifetime: { preferredSeconds: 0xffff_ffff },
  });
  expect(listed.some((address) => address.address?.[0] === 0xfd && address.prefixLength === 64)).toBe(true);
  socket.expect(deleteAddress(ipv6));
  expect(
    socket.expect(dumpAddresses({ index, family: AddressFamily.INET6 })).map((m) => parseAddress(m).scope),
  ).toEqual([253]);
});

test('neighbours and forwarding entries are added, listed and removed', () => {
  const { index } = socket.link('base');
  const destination = new Uint8Array([10, 9, 8, 99]);
  const macAddress = new Uint8Array([2, 0, 0, 0, 0, 0x99]);
  socket.expect(addNeighbour({ index, destination, macAddress }));
  const listed = socket.expect(dumpNeighbours({ family: AddressFamily.INET, index })).map(parseNeighbour);
  expect(listed).toHaveLength(1);
  expect(listed[0]).toMatchObject({ index, destination, macAddress, state: 0x80 });
  expect(listed[0].ages?.references).toBeTypeOf('number');
  socket.expect(deleteNeighbour({ index, destination }));
  expect(socket.expect(dumpNeighbours({ family: AddressFamily.INET, index }))).toHaveLength(0);

  const port = socket.link('left').index;
  socket.expect(setLink(port, { masterIndex: socket.link('br').index }));
  socket.expect(addNeighbour({ index: port, macAddress, flags: 4 }));
  const entries = socket.expect(dumpNeighbours({ family: AddressFamily.BRIDGE })).map(parseNeighbour);
  expect(entries.some((one) => one.index === port && one.macAddress?.[5] === 0x99)).toBe(true);
});

test('routes are added, looked up, listed and removed, with several next hops too', () => {
  const { index } = socket.link('base');
  const family = AddressFamily.INET;
  const gateway = new Uint8Array([10, 9, 8, 1]);
  const plain = { family, destination: new Uint8Array([172, 16, 0, 0]), destinationPrefixLength: 12, gateway };
  socket.expect(addRoute({ ...plain, outputIndex: index, metrics: { mtuBytes: 1300 } }));
  const hops = [
    { outputIndex: index, weight: 1, flags: 0, gateway },
    { outputIndex: index, weight: 20, flags: 0, gateway: new Uint8Array([10, 9, 8, 2]) },
  ];
  socket.expect(
    addRoute({
      family,
      tableId: 1000,
      destination: new Uint8Array([192, 168, 0, 0]),
      destinationPrefixLength: 16,
      nextHops: hops,
    }),
  );
  const inMain = socket.expect(dumpRoutes({ family, table: 254 })).map(parseRoute);
  expect(inMain.find((route) => route.destinationPrefixLength === 12)).toMatchObject({
    destination: plain.destination,
    gateway,
    outputIndex: index,
    metrics: { mtuBytes: 1300 },
    protocol: 4,
  });
  const multipath = socket
    .expect(dumpRoutes({ family }))
    .map(parseRoute)
    .find((route) => route.tableId === 1000);
  expect(multipath?.nextHops?.map((hop) => [hop.outputIndex, hop.weight, hop.gateway])).toEqual([
    [index, 1, hops[0].gateway],
    [index, 20, hops[1].gateway],
  ]);
  const [found] = socket.expect(getRoute(new Uint8Array([172, 16, 5, 5])));
  expect(parseRoute(found)).toMatchObject({ gateway, outputIndex: index });
  socket.expect(deleteRoute(plain));
  expect(socket.run(deleteRoute(plain)).failure?.errno).toBe(3);
});

/** Load "r0 = TC_ACT_OK; exit" for traffic control. */
function loadProgram(): number {
  const code = new Uint8Array([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
  const license = new Uint8Array(Buffer.from('Apache-2.0\0'));
  const attributes = new NativeBlock(128);
  const PROG_LOAD = 5;
  const SCHED_CLS = 3;
  attributes.u32[0] = SCHED_CLS;
  attributes.u32[1] = code.length / 8;
  attributes.setAddress(8, addressOf(code));
  attributes.setAddress(16, addressOf(license));
  return check(rawBpf(PROG_LOAD, attributes, 72), 'bpf', 'load a program');
}

test('clsact comes and goes, with eBPF filters that are added, replaced, listed and removed', () => {
  const { index } = socket.link('base');
  const place = { index, parent: Clsact.INGRESS, priority: 3, handle: 7 };
  const descriptor = loadProgram();
  socket.expect(addClsact(index));
  socket.expect(addBpfFilter(place, { descriptor, name: 'pass.one' }));
  expect(socket.run(addBpfFilter(place, { descriptor, name: 'pass.one' })).failure?.errno).toBe(17);
  socket.expect(addBpfFilter(place, { descriptor, name: 'pass.two' }, 'replace'));
  const disciplines = socket.expect(dumpQdiscs({ index })).map(parseQdisc);
  expect(disciplines.find((one) => one.kind === 'clsact')).toMatchObject({ index, parent: Clsact.PARENT });

  const filters = socket.expect(dumpFilters(index, Clsact.INGRESS)).map(parseFilter);
  const filter = filters.find((one) => one.bpf !== undefined);
  expect(filter).toMatchObject({ kind: 'bpf', index, handle: 7, bpf: { name: 'pass.two', flags: DIRECT_ACTION } });
  expect(splitFilterInfo(filter?.info ?? 0)).toEqual({ priority: 3, protocol: 3 });
  const [seen] = JSON.parse(
    execFileSync('tc', ['-n', name, '-json', 'filter', 'show', 'dev', 'base', 'ingress'], { encoding: 'utf8' }),
  ).filter((one: { options?: object }) => one.options !== undefined);
  expect(seen).toMatchObject({
    pref: 3,
    kind: 'bpf',
    options: { bpf_name: 'pass.two', prog: { id: filter?.bpf?.programId } },
  });

  socket.expect(deleteFilter(place));
  expect(socket.expect(dumpFilters(index, Clsact.INGRESS))).toHaveLength(0);
  socket.expect(deleteClsact(index));
  expect(socket.expect(dumpQdiscs({ index })).map((message) => parseQdisc(message).kind)).not.toContain('clsact');
  closeDescriptor(descriptor);
});

test('a failure comes with the sentence and the place that the kernel gives', () => {
  const { failure } = socket.run(setLink(socket.link('base').index, { mtuBytes: 70_000 }));
  expect(failure).toMatchObject({ errno: 22, extended: { message: 'mtu greater than device maximum' } });
  expect(failure?.text).toContain('cannot change link');
  expect(socket.run(deleteLink('nowhere')).failure?.errno).toBe(19);
});

test('listeners hear of links that come, change and go', () => {
  const listener = new Socket(NetlinkProtocol.ROUTE, 1 << (RtnlGroup.LINK - 1));
  try {
    socket.expect(newBridge('heard'));
    socket.expect(setLink(socket.link('heard').index, { name: 'renamed' }));
    socket.expect(deleteLink('renamed'));
    const heard: string[] = [];
    while (!heard.includes('gone renamed')) {
      for (const message of listener.receive()) {
        const event = parseRouteEvent(message);
        if (event?.kind === 'link') heard.push(`${event.gone ? 'gone' : 'there'} ${event.object.name}`);
      }
    }
    expect(heard).toContain('there heard');
    expect(heard).toContain('there renamed');
  } finally {
    listener.close();
  }
});

test('the generic netlink controller tells of itself', () => {
  const generic = new Socket(NetlinkProtocol.GENERIC);
  try {
    const [reply] = generic.expect(getFamily('nlctrl'));
    const { command, family } = parseFamily(reply);
    expect(command).toBe(1);
    expect(family).toMatchObject({ id: 0x10, name: 'nlctrl', headerBytes: 0 });
    expect(family.operations?.some((operation) => operation.command === 3)).toBe(true);
    expect(family.multicastGroups).toEqual([{ name: 'notify', id: 0x10 }]);
    expect(generic.run(getFamily('no_such_family')).failure?.errno).toBe(2);
  } finally {
    generic.close();
  }
});
