/**
 * The host's interfaces and their addresses: read whole at the beginning, a part at a time, so that packets go on, and followed by notifications. Both come by one socket,
 * so that a notification never is older than what a dump has said before it. When notifications were lost, all is read again; what is not found any more is gone.
 */

import type { LocalAddress } from '../../net/index.ts';
import {
  AddressFamily,
  AddressFlag,
  dumpAddresses,
  dumpLinks,
  type InterfaceAddress,
  type Link,
  LinkFlag,
  type Message,
  MessageWriter,
  NetlinkError,
  NlmFlag,
  Nlmsg,
  parseDone,
  parseError,
  parseMessages,
  parseRouteEvent,
  type Request,
  RtnlGroup,
} from '../../netlink/index.ts';
import { errnoName } from '../sys/index.ts';
import { KnownAddresses } from './addresses.ts';
import { discardWaiting, isOverflow, type TablesLoop, type TablesSocket } from './socket.ts';
import { addressKey, fillWords } from './words.ts';

/** Groups that the socket is to be in. */
export const INTERFACE_GROUPS = [RtnlGroup.LINK, RtnlGroup.IPV4_IFADDR, RtnlGroup.IPV6_IFADDR];

/** Datagrams that are read at a time: each is up to 32 KB of a dump. */
const SLICE = 8;
/** A dump that changes disturb is asked for again so often at once, then after a while. */
const ATTEMPTS = 8;
const AGAIN_MS = 1000;
const ETHERNET = 1;
const MAC_BYTES = 6;
/** States in which an address must not be used. */
const UNUSABLE = AddressFlag.TENTATIVE | AddressFlag.DADFAILED;

/** A network interface, as paths need it. It changes when the interface does. */
export interface HostLink {
  readonly index: number;
  readonly name: string;
  readonly mtuBytes: number;
  readonly isUp: boolean;
  /** It wants Ethernet headers. */
  readonly hasEthernet: boolean;
  /** Addresses on it are to be resolved; else every frame goes to its own MAC address, as Linux has it for interfaces without ARP. */
  readonly hasNeighbours: boolean;
  readonly macAddress: Uint8Array;
}

interface KnownAddress extends LocalAddress {
  readonly isSettled: boolean;
  isUsable: boolean;
  epoch: number;
}

export interface InterfaceListener {
  /** An interface is new, another than before, or gone (null). */
  onLink(index: number, link: HostLink | null): void;
  onAddresses(): void;
  /** Notifications were lost. */
  onLost(): void;
  warn(message: string): void;
}

export class HostInterfaces {
  readonly addresses = new KnownAddresses();
  readonly #links = new Map<number, { readonly link: HostLink; epoch: number }>();
  readonly #addresses = new Map<string, KnownAddress>();
  readonly #socket: TablesSocket;
  readonly #loop: TablesLoop;
  readonly #nowMs: () => number;
  readonly #listener: InterfaceListener;
  readonly #writer = new MessageWriter();
  /** What is found is of the present epoch; what is of an older one when all was read is gone. */
  #epoch = 0;
  #sequence = 0;
  /** Dumps that are to come, the one that is read first. */
  #dumps: Request[] = [];
  #attempts = 0;
  #isDisturbed = false;
  #addressesChanged = false;
  #isClosed = false;

  constructor(socket: TablesSocket, loop: TablesLoop, nowMs: () => number, listener: InterfaceListener) {
    this.#socket = socket;
    this.#loop = loop;
    this.#nowMs = nowMs;
    this.#listener = listener;
    loop.add(socket.fileDescriptor, {
      onReady: () => this.process(),
      onError: () => this.#lost(),
    });
    this.#readAll();
    this.process();
  }

  get linkCount(): number {
    return this.#links.size;
  }

  /** An interface that is known; null for one that is not, or not yet. */
  link(index: number): HostLink | null {
    return this.#links.get(index)?.link ?? null;
  }

  /** An interface that was asked for by itself. */
  see(link: Link): HostLink {
    const seen = toHostLink(link);
    const known = this.#links.get(seen.index);
    this.#links.set(seen.index, { link: seen, epoch: this.#epoch });
    if (known === undefined || !isAlike(known.link, seen)) this.#changed(seen.index, seen, known?.link.isUp ?? false);
    return seen;
  }

  /** Read what waits, or a part of it; the rest comes in the loop's next turns. */
  process(): void {
    for (let taken = 0; taken < SLICE && !this.#isClosed; taken += 1) {
      try {
        const datagram = this.#socket.receive();
        if (datagram === null) break;
        for (const message of parseMessages(datagram)) this.#take(message);
      } catch (error) {
        // A notification that cannot be read is as good as lost.
        if (!isOverflow(error) && !(error instanceof NetlinkError)) throw error;
        this.#lost();
      }
    }
    this.#tell();
  }

  #take(message: Message): void {
    const isOfDump = message.sequence === this.#sequence && this.#dumps.length > 0;
    if (isOfDump && (message.type === Nlmsg.DONE || message.type === Nlmsg.ERROR)) {
      this.#isDisturbed ||= (message.flags & NlmFlag.DUMP_INTR) !== 0;
      const { errno } = message.type === Nlmsg.DONE ? parseDone(message) : parseError(message);
      this.#dumpEnded(errno);
      return;
    }
    // Messages of a dump have a flag that notifications have not.
    if (isOfDump && (message.flags & NlmFlag.DUMP_INTR) !== 0) this.#isDisturbed = true;
    const event = parseRouteEvent(message);
    if (event?.kind === 'address') this.#onAddress(event.object, event.gone);
    // Bridges tell of their ports under a family of their own; there, "deleted" only means "no port any more".
    if (event?.kind !== 'link' || event.object.family !== AddressFamily.UNSPEC) return;
    if (!event.gone) this.see(event.object);
    else this.#lose(event.object.index);
  }

  #readAll(): void {
    this.#epoch += 1;
    this.#attempts = 0;
    this.addresses.isComplete = false;
    this.#dumps = [dumpLinks({ withoutStatistics: true }), dumpAddresses()];
    this.#askForDump();
  }

  #askForDump(): void {
    const [request] = this.#dumps;
    this.#isDisturbed = false;
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.#writer.reset();
    this.#writer.begin(request.type, request.flags | NlmFlag.REQUEST | NlmFlag.DUMP, this.#sequence);
    request.write(this.#writer);
    this.#writer.end();
    this.#socket.send(this.#writer.view());
  }

  #dumpEnded(errno: number): void {
    if (errno !== 0) {
      this.#dumps = [];
      this.#listener.warn(`the host's interfaces cannot be read (${errnoName(errno)}); it is tried again`);
      this.#readLater();
      return;
    }
    if (this.#isDisturbed) {
      this.#attempts += 1;
      if (this.#attempts < ATTEMPTS) {
        this.#askForDump();
        return;
      }
      // What was found is good; what is gone is found when less goes on.
      this.#dumps = [];
      this.#readLater();
      return;
    }
    this.#dumps.shift();
    if (this.#dumps.length > 0) this.#askForDump();
    else this.#sweep();
  }

  #readLater(): void {
    this.#loop.timers.once(AGAIN_MS, { onTimer: () => this.#readAgain() }, this.#nowMs());
  }

  #readAgain(): void {
    if (this.#isClosed || this.#dumps.length > 0) return;
    this.#readAll();
    this.process();
  }

  /** All was read: what was not found is gone. */
  #sweep(): void {
    for (const [index, { epoch }] of this.#links) if (epoch !== this.#epoch) this.#lose(index);
    for (const [key, address] of this.#addresses) if (address.epoch !== this.#epoch) this.#removeAddress(key, address);
    this.addresses.isComplete = true;
    this.#addressesChanged = true;
  }

  #lost(): void {
    if (this.#isClosed) return;
    // The kernel reports a loss ahead of what came before it, and a dump that is not read to its end keeps the next one off.
    discardWaiting(this.#socket);
    this.#listener.onLost();
    this.#readAll();
    this.#tell();
  }

  #lose(index: number): void {
    const known = this.#links.get(index);
    if (known === undefined) return;
    this.#links.delete(index);
    for (const [key, address] of this.#addresses)
      if (address.interfaceIndex === index) this.#removeAddress(key, address);
    this.#changed(index, null, known.link.isUp);
  }

  #changed(index: number, link: HostLink | null, wasUp: boolean): void {
    const isUp = link?.isUp ?? false;
    if (isUp !== wasUp) {
      for (const address of this.#addresses.values()) {
        if (address.interfaceIndex === index) this.#setUsable(address, isUp && address.isSettled);
      }
    }
    this.#listener.onLink(index, link);
  }

  #onAddress(object: InterfaceAddress, isGone: boolean): void {
    const { family, index, prefixLength } = object;
    // On a point-to-point link "address" is the other end's.
    const bytes = object.local ?? object.address;
    if (bytes === undefined || (family !== AddressFamily.INET && family !== AddressFamily.INET6)) return;
    const words = new Int32Array(4);
    fillWords(words, bytes);
    const isIpv6 = family === AddressFamily.INET6;
    const key = `${index}/${prefixLength}/${addressKey(isIpv6, words)}`;
    const known = this.#addresses.get(key);
    if (isGone) {
      if (known !== undefined) this.#removeAddress(key, known);
      return;
    }
    const isSettled = ((object.extendedFlags ?? object.flags) & UNUSABLE) === 0;
    if (known !== undefined && known.isSettled === isSettled) {
      known.epoch = this.#epoch;
      return;
    }
    if (known !== undefined) this.addresses.remove(known);
    const isUsable = isSettled && (this.link(index)?.isUp ?? false);
    const address = { interfaceIndex: index, isIpv6, words, prefixLength, isSettled, isUsable, epoch: this.#epoch };
    this.#addresses.set(key, address);
    this.addresses.add(address);
    this.#addressesChanged = true;
  }

  #removeAddress(key: string, address: KnownAddress): void {
    this.#addresses.delete(key);
    this.addresses.remove(address);
    this.#addressesChanged = true;
  }

  #setUsable(address: KnownAddress, isUsable: boolean): void {
    if (address.isUsable === isUsable) return;
    address.isUsable = isUsable;
    this.#addressesChanged = true;
  }

  #tell(): void {
    if (!this.#addressesChanged) return;
    this.#addressesChanged = false;
    this.#listener.onAddresses();
    this.addresses.tell();
  }

  /** Closing twice is harmless. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#loop.remove(this.#socket.fileDescriptor);
    this.#socket.close();
  }
}

function toHostLink(link: Link): HostLink {
  const { index, flags, hardwareType, macAddress, name = '', mtuBytes = 0 } = link;
  const hasEthernet = hardwareType === ETHERNET && macAddress?.length === MAC_BYTES;
  return {
    index,
    name,
    mtuBytes,
    isUp: (flags & LinkFlag.UP) !== 0,
    hasEthernet,
    hasNeighbours: hasEthernet && (flags & (LinkFlag.NOARP | LinkFlag.LOOPBACK)) === 0,
    macAddress: hasEthernet && macAddress !== undefined ? macAddress : new Uint8Array(MAC_BYTES),
  };
}

function isAlike(a: HostLink, b: HostLink): boolean {
  return (
    a.name === b.name &&
    a.mtuBytes === b.mtuBytes &&
    a.isUp === b.isUp &&
    a.hasEthernet === b.hasEthernet &&
    a.hasNeighbours === b.hasNeighbours &&
    Buffer.compare(a.macAddress, b.macAddress) === 0
  );
}
