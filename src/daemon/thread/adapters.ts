/**
 * From a port's configuration to an open adapter: takes over an interface, makes a TAP, opens capture files. What is wrong is said in one
 * sentence with what to do.
 */
import { readlinkSync, statSync } from 'node:fs';
import {
  isTapLeft,
  NetworkNamespace,
  openPacketSocket,
  openTap,
  ownDescriptors,
  type PortAdapter,
  SystemError,
  withRouteClient,
} from '../../host/index.ts';
import {
  type Adapter,
  type ByteSink,
  MemoryAdapter,
  openFileSink,
  openFileSource,
  PcapAdapter,
  parseIpv4Address,
  parseIpv6Address,
  parseMac,
} from '../../net/index.ts';
import { addAddress } from '../../netlink/index.ts';
import { messageOf } from '../../switch/index.ts';
import type { Port } from '../config/model.ts';
import { Failure } from '../rpc/failure.ts';

/** A port's section of one kind. */
export type PortOf<Kind extends Port['kind']> = Extract<Port, { kind: Kind }>;

/** Whether an adapter stands on a device that can come, go and change. */
export function isDevice(adapter: Adapter): adapter is PortAdapter {
  return 'refresh' in adapter;
}

/** Whether there is an interface of this name, in the thread's namespace. */
export function interfaceExists(name: string): boolean {
  return withRouteClient((client) => client.findLink(name) !== null);
}

/** Ports with a receive ring of full size, unless they say otherwise, and the slots of each; further ports have fewer. */
const FULL_RINGS = 4;
const FULL_SLOTS = 128;
const SLOTS = 30;

/**
 * How many slots a receive ring has of which nothing is said. The one thread that takes packets out of all rings comes to each the less often the more there
 * are, so what waits in all of them is bounded rather than in each; and the memory of a ring, 9 MB at full size, is what a port takes longest to get.
 * @param rings how many there are
 */
export function ringSlots(rings: number): number {
  return rings < FULL_RINGS ? FULL_SLOTS : SLOTS;
}

/**
 * Take over an existing interface.
 * @param receiveSlots of its ring when its section does not say; null when its frames come in through a program, and the interface is set up for that
 * @throws Failure, SystemError, RangeError
 */
export function openNetdev(
  name: string,
  port: PortOf<'netdev'>,
  receiveSlots: number | null,
  isNewcomer: boolean,
): PortAdapter {
  const { device, ring } = port;
  withRouteClient((client) => {
    const link = client.findLink(device);
    if (link === null) {
      const hint = '`ip link` lists those that exist; with `wait: true` (--wait) the port waits for it';
      throw new Failure('not-found', `there is no interface ${device}`, hint);
    }
    const master = link.masterIndex ?? 0;
    if (master !== 0) {
      const masterName = client.findLink(master)?.name ?? `number ${master}`;
      const hint = `take it out first: ip link set ${device} nomaster`;
      throw new Failure('refused', `the interface ${device} belongs to ${masterName} already`, hint);
    }
  });
  return openPacketSocket({
    interfaceName: device,
    name,
    receive: receiveSlots !== null,
    bringUp: receiveSlots !== null && (isNewcomer ? 'for good' : true),
    receiveSlots: ring?.receiveSlots ?? receiveSlots ?? FULL_SLOTS,
    ...(ring?.transmit === undefined ? {} : { transmit: ring.transmit }),
    ...(ring?.transmitSlots === undefined ? {} : { transmitSlots: ring.transmitSlots }),
    ...(port.promiscuous === undefined ? {} : { promiscuous: port.promiscuous }),
    ...(port.isolate === undefined ? {} : { isolate: port.isolate }),
  });
}

/** Whether a former process of this daemon has left a TAP under this name in the thread's namespace. */
function isLeftHere(name: string): boolean {
  const here = NetworkNamespace.current();
  try {
    return isTapLeft(name, here);
  } finally {
    here.close();
  }
}

/** A namespace by name, or by path when there is a slash in it. */
function openNamespace(nameOrPath: string): NetworkNamespace {
  return nameOrPath.includes('/') ? NetworkNamespace.byPath(nameOrPath) : NetworkNamespace.byName(nameOrPath);
}

/** Make a TAP. @throws Failure, SystemError, RangeError */
export function openTapPort(name: string, port: PortOf<'tap'>, up = true): PortAdapter {
  const { device } = port;
  if (interfaceExists(device) && !isLeftHere(device)) {
    const hint = 'choose another with `device` (--device), or take it over as it is: kind netdev';
    throw new Failure('exists', `there is an interface ${device} already`, hint);
  }
  const namespace = port.netns === undefined ? null : openNamespace(port.netns);
  try {
    const tap = openTap({
      interfaceName: device,
      name,
      up,
      ...(namespace === null ? {} : { namespace }),
      ...(port.mac === undefined ? {} : { macAddress: parseMac([port.mac].flat()[0]) }),
      ...(port.mtuBytes === undefined ? {} : { mtuBytes: port.mtuBytes }),
    });
    try {
      const give = () => giveAddresses(tap, port.addresses ?? []);
      if (namespace === null) give();
      else namespace.run(give);
    } catch (error) {
      tap.close();
      throw error;
    }
    return tap;
  } finally {
    namespace?.close();
  }
}

/** Put IP addresses, which the schema has checked, on a device in the thread's namespace. */
function giveAddresses(tap: PortAdapter, addresses: readonly string[]): void {
  if (addresses.length === 0) return;
  withRouteClient((client) => {
    const { index } = client.link(tap.interfaceName);
    for (const text of addresses) {
      const [address, prefix] = text.split('/');
      const local = address.includes(':') ? parseIpv6Address(address) : parseIpv4Address(address);
      const prefixLength = prefix === undefined ? local.length * 8 : Number(prefix);
      try {
        client.request(addAddress({ index, prefixLength, local }));
      } catch (error) {
        // A device that was taken up has its addresses.
        if (!(error instanceof SystemError && error.code === 'EEXIST')) throw error;
      }
    }
  });
}

/** A port with nothing behind it. */
export function openMemory(name: string): MemoryAdapter {
  return new MemoryAdapter({ name });
}

/** Open capture files. What cannot be played leaves the file that would be written as it is. @throws Failure naming the file */
export function openPcap(name: string, port: PortOf<'pcap'>): PcapAdapter {
  const { read, write } = port;
  const input = read === undefined ? null : openFile(read, 'read', openFileSource);
  try {
    return new PcapAdapter({
      name,
      speed: port.speed === 'fast' ? 0 : (port.speed ?? 1),
      ...(port.mtuBytes === undefined ? {} : { mtuBytes: port.mtuBytes }),
      ...(input === null ? {} : { input }),
      ...(write === undefined ? {} : { openOutput: () => openFile(write, 'write', openForeignSink) }),
    });
  } catch (error) {
    if (error instanceof Failure || read === undefined) throw error;
    throw new Failure('failed', `cannot play ${read}: ${messageOf(error)}`);
  }
}

/** Create or empty a file that is not one of the daemon's own. */
function openForeignSink(path: string): ByteSink {
  const own = ownFileAt(path);
  if (own !== null) throw new Error(`it is ${own} of this daemon`);
  return openFileSink(path);
}

/** What a path is for the daemon: its lock, or what its log goes to. Any name of the file counts. */
function ownFileAt(path: string): string | null {
  const there = statSync(path, { throwIfNoEntry: false });
  if (there === undefined) return null;
  for (const fd of ownDescriptors()) {
    const link = `/proc/self/fd/${fd}`;
    const open = statSync(link, { throwIfNoEntry: false });
    if (open?.ino !== there.ino || open.dev !== there.dev) continue;
    if (fd <= 2) return 'the log';
    if (readlinkSync(link).endsWith('.lock')) return 'the lock';
  }
  return null;
}

function openFile<File>(path: string, verb: string, open: (path: string) => File): File {
  try {
    return open(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
    const kind = code === 'EACCES' ? 'privilege' : code === 'ENOENT' ? 'not-found' : 'failed';
    throw new Failure(kind, `cannot ${verb} ${path}: ${code}`);
  }
}
