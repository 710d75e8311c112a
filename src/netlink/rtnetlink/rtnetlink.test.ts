import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseError } from '../acknowledgement.ts';
import { NetlinkError } from '../error.ts';
import { getFamily, parseFamily, writeFamily } from '../generic.ts';
import { type Message, parseMessages } from '../message.ts';
import { type Request, Transaction } from '../transaction.ts';
import { MessageWriter } from '../writer.ts';
import { parseAddress, writeAddress } from './address.ts';
import { Rtm } from './constants.ts';
import { parseRouteEvent } from './event.ts';
import { type Link, parseLink, writeLink } from './link.ts';
import { parseNeighbour, writeNeighbour } from './neighbour.ts';
import { addAddress, addNeighbour, addRoute, getNeighbour, getRoute, useNeighbour } from './requests.ts';
import { getLink, newBridge, newDummy, newVeth, newVlan, setLink } from './requests-link.ts';
import { parseRoute, writeRoute } from './route.ts';
import { filterInfo, parseFilter, splitFilterInfo, writeFilter } from './traffic.ts';

const kernel: Record<string, string> = JSON.parse(
  readFileSync(new URL('../fixtures/kernel.json', import.meta.url), 'utf8'),
);

function fromKernel(name: string): Message[] {
  return parseMessages(new Uint8Array(Buffer.from(kernel[name], 'hex')));
}

function message(write: (writer: MessageWriter) => void, type = 16): Message {
  const writer = new MessageWriter();
  writer.begin(type, 0, 1);
  write(writer);
  writer.end();
  return parseMessages(writer.take())[0];
}

function requested(request: Request): Message {
  const writer = new MessageWriter();
  new Transaction(request, 1).encode(writer);
  return parseMessages(writer.take())[0];
}

test('a link as the kernel tells of it is read', () => {
  const [link] = fromKernel('link').map(parseLink);
  expect(link).toMatchObject({
    name: 'va',
    mtuBytes: 1500,
    operationalState: 6,
    carrier: 1,
    macAddress: new Uint8Array([2, 0, 0, 0, 0, 1]),
    info: { kind: 'veth', portKind: 'bridge' },
    gsoMaxBytes: 65_536,
    statistics: { receiveErrors: 0, transmitDropped: 0 },
  });
  expect(link.masterIndex).toBeGreaterThan(0);
  expect(link.linkedIndex).toBeGreaterThan(0);
});

test('the kernel’s dumps of addresses, neighbours and routes are read', () => {
  expect(parseAddress(fromKernel('addressDump')[0])).toMatchObject({
    family: 2,
    prefixLength: 24,
    local: new Uint8Array([10, 1, 2, 3]),
    label: 'vb',
  });
  expect(parseNeighbour(fromKernel('neighbourDump')[0])).toMatchObject({
    destination: new Uint8Array([10, 1, 2, 9]),
    macAddress: new Uint8Array([2, 0, 0, 0, 0, 9]),
    state: 0x80,
  });
  const routes = fromKernel('routeDump').map((one) => parseRouteEvent(one));
  const multipath = routes.find((one) => one?.kind === 'route' && one.object.nextHops !== undefined);
  expect(multipath).toMatchObject({
    gone: false,
    object: {
      destinationPrefixLength: 12,
      nextHops: [
        { weight: 1, gateway: new Uint8Array([10, 1, 2, 8]) },
        { weight: 3, gateway: new Uint8Array([10, 1, 2, 9]) },
      ],
    },
  });
});

test('the kernel’s acknowledgements are read: success, a sentence, an offset', () => {
  expect(parseError(fromKernel('acknowledgement')[0])).toEqual({ errno: 0, requestType: 16, extended: {} });
  expect(parseError(fromKernel('extendedError')[0])).toMatchObject({
    errno: 22,
    extended: { message: 'mtu greater than device maximum' },
  });
  expect(parseError(fromKernel('offsetError')[0])).toMatchObject({
    errno: 34,
    extended: { message: 'Attribute failed policy validation', offset: 32, policy: { maxLength: 15 } },
  });
});

test('the kernel’s description of a generic netlink family is read and written again', () => {
  const read = parseFamily(fromKernel('controllerFamily')[0], { strict: true });
  expect(read).toMatchObject({ command: 1, version: 2, family: { id: 16, name: 'nlctrl' } });
  const again = message((writer) => writeFamily(writer, 1, read.family), 16);
  expect(again.bytes.subarray(16)).toEqual(fromKernel('controllerFamily')[0].bytes.subarray(16));
  expect(parseFamily(requested(getFamily('ovs_flow'))).family).toEqual({ name: 'ovs_flow' });
});

test('a VLAN is asked for with the same meaning as by iproute2', () => {
  const [theirs] = fromKernel('iproute2NewVlan');
  const ours = requested(newVlan('va.7', 3, 7, 0x88a8));
  expect(ours).toMatchObject({ type: theirs.type, flags: theirs.flags });
  expect(parseLink(ours)).toEqual(parseLink(theirs));
});

test('requests for links hold what was asked', () => {
  expect(parseLink(requested(newDummy('d0', { up: true })))).toMatchObject({ name: 'd0', flags: 1, changeMask: 1 });
  expect(parseLink(requested(newBridge('b0', { stpState: 1 }))).info?.bridge).toEqual({ stpState: 1 });
  expect(parseLink(requested(newVeth('a', { name: 'b', namespacePid: 9 }))).info?.peer).toMatchObject({
    name: 'b',
    namespacePid: 9,
  });
  const changed = parseLink(requested(setLink(4, { up: false, arp: false, ipv6AddressGenerationMode: 1 })));
  expect(changed).toMatchObject({ index: 4, flags: 0x80, changeMask: 0x81 });
  expect(changed.familySpecific?.inet6?.addressGenerationMode).toBe(1);
  expect(parseLink(requested(getLink('a-name-longer-than-15')))).toMatchObject({
    alternativeName: 'a-name-longer-than-15',
  });
  expect(() => getLink('').write(new MessageWriter())).toThrow(NetlinkError);
  expect(() => getLink(0).write(new MessageWriter())).toThrow('no interface index');
  expect(() => requested(setLink(1, { name: 'sixteen-bytes-..' }))).toThrow('longer than 15');
});

test('requests know the family from the length of the address, and refuse other lengths', () => {
  const local = new Uint8Array(16);
  expect(parseAddress(requested(addAddress({ index: 2, prefixLength: 64, local })))).toMatchObject({ family: 10 });
  const neighbour = parseNeighbour(requested(addNeighbour({ index: 2, destination: new Uint8Array(4) })));
  expect(neighbour).toMatchObject({ family: 2, state: 0x80 });
  expect(() => getRoute(new Uint8Array(5))).toThrow('4 or 16 bytes, not 5');
  expect(parseRoute(requested(addRoute({ family: 2, tableId: 5000 })))).toMatchObject({ table: 0, tableId: 5000 });
});

const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffff_ffff);
const index = fc.nat(0x7fff_ffff);
const name = fc.string({ minLength: 1, maxLength: 15, unit: 'grapheme-ascii' });
const address = fc.uint8Array({ minLength: 4, maxLength: 16 });
const present = (record: object): object =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));

test('links are read back as they were written', () => {
  const basic = {
    name: maybe(name),
    mtuBytes: maybe(u32),
    macAddress: maybe(fc.uint8Array({ minLength: 6, maxLength: 6 })),
    linkedIndex: maybe(u32),
    linkNamespaceId: maybe(fc.integer()),
    carrier: maybe(u8),
  };
  const header = { family: u8, hardwareType: u16, index, flags: u32, changeMask: u32 };
  const info = fc.oneof(
    fc.record({ kind: fc.constant('vlan'), vlan: fc.record({ id: fc.nat(4095), protocol: u16 }) }),
    fc.record({ kind: fc.constant('bridge'), bridge: fc.record({ stpState: u32, priority: u16 }) }),
    fc.record({ kind: fc.constant('tun'), tun: fc.record({ type: u8, queues: u32 }) }),
    fc.record({ kind: fc.constant('veth'), peer: fc.record(header) }),
    fc.record({ kind: fc.constant('strange'), data: fc.uint8Array({ maxLength: 20 }) }),
  );
  fc.assert(
    fc.property(fc.record({ ...header, ...basic, info: maybe(info) }), (link) => {
      const expected: Partial<Link> = present(link);
      expect(parseLink(message((writer) => writeLink(writer, link)))).toEqual(expected);
    }),
  );
});

test('addresses, neighbours, routes and filters are read back as they were written', () => {
  const addresses = fc.record({
    family: u8,
    prefixLength: fc.nat(128),
    flags: u8,
    scope: u8,
    index,
    local: maybe(address),
    label: maybe(name),
    extendedFlags: maybe(u32),
    lifetime: maybe(
      fc.record({ preferredSeconds: u32, validSeconds: u32, createdCentiseconds: u32, changedCentiseconds: u32 }),
    ),
  });
  const neighbours = fc.record({
    family: u8,
    index,
    state: u16,
    flags: u8,
    type: u8,
    destination: maybe(address),
    macAddress: maybe(address),
    vlanId: maybe(u16),
    udpPort: maybe(u16),
    ages: maybe(fc.record({ confirmedTicks: u32, usedTicks: u32, updatedTicks: u32, references: u32 })),
  });
  const hop = fc.record({ outputIndex: index, weight: fc.integer({ min: 1, max: 256 }), flags: u8, gateway: address });
  const routes = fc.record({
    family: u8,
    destinationPrefixLength: u8,
    sourcePrefixLength: u8,
    typeOfService: u8,
    table: u8,
    protocol: u8,
    scope: u8,
    type: u8,
    flags: u32,
    destination: maybe(address),
    tableId: maybe(u32),
    nextHops: maybe(fc.array(hop, { maxLength: 5 })),
    via: maybe(fc.record({ family: u16, address })),
    metrics: maybe(fc.record({ mtuBytes: u32 })),
  });
  const filters = fc.record({
    family: u8,
    index,
    handle: u32,
    parent: u32,
    info: u32,
    kind: fc.constant('bpf'),
    bpf: maybe(fc.record({ descriptor: u32, name, flags: u32 })),
    chain: maybe(u32),
  });
  fc.assert(
    fc.property(addresses, neighbours, routes, filters, (one, two, three, four) => {
      expect(parseAddress(message((writer) => writeAddress(writer, one)))).toEqual(present(one));
      expect(parseNeighbour(message((writer) => writeNeighbour(writer, two)))).toEqual(present(two));
      expect(parseRoute(message((writer) => writeRoute(writer, three)))).toEqual(present(three));
      expect(parseFilter(message((writer) => writeFilter(writer, four)))).toEqual(present(four));
    }),
  );
});

test('a question for a route says what rules go by, without the bits of ECN; one for a neighbour says nothing else', () => {
  const destination = Uint8Array.of(192, 0, 2, 1);
  const selection = { mark: 7, outputIndex: 3, typeOfService: 0x13, ipProtocol: 17, destinationPort: 4789 };
  expect(parseRoute(requested(getRoute(destination, { ...selection, source: destination })))).toMatchObject({
    ...selection,
    family: 2,
    destination,
    source: destination,
    destinationPrefixLength: 32,
    sourcePrefixLength: 32,
    typeOfService: 0x10,
    table: 0,
    protocol: 0,
    scope: 0,
    type: 0,
  });
  expect(() => getRoute(destination, { source: new Uint8Array(16) })).toThrow('two families');
  const asked = { family: 10, index: 4, destination: new Uint8Array(16), state: 0 };
  expect(parseNeighbour(requested(getNeighbour(4, new Uint8Array(16))))).toEqual({ ...asked, flags: 0, type: 0 });
  for (const isNew of [true, false]) {
    const wish = requested(useNeighbour(4, new Uint8Array(16), isNew));
    expect(parseNeighbour(wish)).toEqual({ ...asked, flags: 1, type: 0 });
    // NLM_F_EXCL: an entry that is there after all stays as it is.
    expect((wish.flags & 0x200) !== 0).toBe(isNew);
  }
});

test('priority and protocol of a filter share a word, the protocol in network order', () => {
  expect(filterInfo(1, 0x0800)).toBe(0x0001_0008);
  expect(splitFilterInfo(filterInfo(0xffff, 0x88a8))).toEqual({ priority: 0xffff, protocol: 0x88a8 });
  expect(() => filterInfo(70_000, 3)).toThrow(NetlinkError);
});

test('a message that is too short for its header is refused with its name', () => {
  const short = message(() => {}, Rtm.NEWADDR);
  expect(() => parseAddress(short)).toThrow('too short for ifaddrmsg, which needs 24');
});
