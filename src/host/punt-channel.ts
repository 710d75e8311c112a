/**
 * The punt channel: packets that eBPF programs on the ports hand up, all ports through one ring. A packet arrives as a packet socket on
 * its port would have received it: super-packets whole, checksums partial, tags inside. The port it came in by goes with it.
 * Neighbours: punt-pair.ts has the devices; packet-socket.ts the ring. The programs are other rooms' business.
 *
 * Which port: the kernel remembers the first device that a packet came in by (PACKET_ORIGDEV). For a port on top of another device (VLAN,
 * macvlan, bond) that is the lower one; a program there writes its own interface index into `__sk_buff.tstamp` before it redirects, which
 * the ring shows as the time of arrival. A packet without that mark has its true time.
 *
 * What is known of a packet besides may come in a record before its frame, which another bit of that mark tells of (packet-rx-ring.ts). Nobody but a
 * program on a port can make such a packet: what really crosses the pair has its true time, and the outer end lets nothing in.
 */
import { BATCH_SIZE, Batch, type InterfaceIndex, type Packet } from '../net/index.ts';
import { type Isolation, isolate } from './isolation.ts';
import { openPacketSocket, type PacketSocket } from './packet-socket.ts';
import type { PortState } from './port.ts';
import {
  INNER_NAME,
  openPuntPair,
  type PuntPair,
  removePuntPair,
  renewPuntPair,
  settlePuntPair,
  stateOfPuntPair,
} from './punt-pair.ts';
import { Clock, ClockId, type NetworkNamespace } from './sys/index.ts';

/** Told of packets of one port. */
export interface PuntHandler {
  /**
   * Packets in the order in which they came in by the port.
   * @param batch their references pass to the handler; the batch itself is the channel's, which empties it afterwards
   */
  onPunted(batch: Batch): void;
  /**
   * A packet that came with a record. Where this is left out such packets are dropped, and count as unclaimed.
   * @param packet its reference passes to the handler
   * @param record is right until the packet is changed or released; its content is the handler's to check
   */
  onResumed?(packet: Packet, record: PuntRecord): void;
}

/** What came before a frame. The object is the channel's, which uses it again. */
export interface PuntRecord {
  bytes: Uint8Array;
  at: number;
  length: number;
}

/** How to open a channel. */
export interface PuntChannelOptions {
  /** Name of the device that programs redirect to, in the namespace of the ports, where the calling thread must be. */
  interfaceName: string;
  /**
   * Path of a file that keeps the devices, so that they outlive the process and the next one finds them (interface index included);
   * null, the default, for devices that go with the process.
   */
  namespacePath?: string | null;
  /** Slots of the ring, of 68 KB each; 255 by default. */
  receiveSlots?: number;
}

/** What has come through a channel. */
export interface PuntCounters {
  receivedPackets: number;
  receivedBytes: number;
  /** Packets that the kernel found no free slot for. */
  ringFull: number;
  /** Packets longer than a slot. */
  truncated: number;
  /** Packets whose offload metadata contradicts them. */
  malformed: number;
  /** Packets of interfaces that no handler is for, such as of a port that was just removed. */
  unclaimed: number;
}

/**
 * What somebody has done to the devices: `gone` when an end is no more or in another namespace, `down` when one was set down, `open` when what keeps the
 * kernel off them was taken off.
 */
export type PuntTrouble = 'gone' | 'down' | 'open';

/** One port's end of the channel. */
export interface PuntClaim {
  /** Packets that the port's handler has been through: each is counted when the handler has returned. */
  readonly handled: number;
}

interface Claim {
  handler: PuntHandler | null;
  handled: number;
  readonly batch: Batch;
}

/**
 * Open the channel: find its devices or make them, and take what comes.
 * @throws SystemError: EPERM, EEXIST when another interface has the name, EBUSY when another process has the channel; RangeError for an impossible name
 */
export function openPuntChannel(options: PuntChannelOptions): PuntChannel {
  return new PuntChannel(options);
}

/** An open punt channel; made by {@link openPuntChannel}. */
export class PuntChannel {
  /** What programs redirect to, with bpf_redirect_peer. */
  readonly interfaceIndex: InterfaceIndex;
  readonly interfaceName: string;
  /** The devices were there already, under the same interface index: programs that know it need not be changed. */
  readonly adopted: boolean;
  readonly warnings: readonly string[];
  readonly #path: string | null;
  readonly #pair: PuntPair;
  readonly #receiveSlots: number;
  #socket: PacketSocket;
  #isolation: Isolation;
  /** What came by sockets before this one. */
  readonly #former: Omit<PuntCounters, 'unclaimed'> = {
    receivedPackets: 0,
    receivedBytes: 0,
    ringFull: 0,
    truncated: 0,
    malformed: 0,
  };
  readonly #claims = new Map<number, Claim>();
  readonly #batch = new Batch();
  readonly #touched: Claim[] = [];
  readonly #record: PuntRecord = { bytes: new Uint8Array(0), at: 0, length: 0 };
  readonly #clock = new Clock(ClockId.REALTIME);
  #unclaimed = 0;
  #closed = false;

  constructor(options: PuntChannelOptions) {
    this.interfaceName = options.interfaceName;
    this.#path = options.namespacePath ?? null;
    this.#pair = openPuntPair(options.interfaceName, this.#path);
    this.interfaceIndex = this.#pair.outerIndex;
    this.adopted = this.#pair.adopted;
    this.#receiveSlots = options.receiveSlots ?? 255;
    try {
      this.#socket = this.#openSocket();
    } catch (error) {
      // Somebody who has the channel keeps it.
      if (this.adopted) this.#pair.namespace.close();
      else removePuntPair(this.#pair, this.#path);
      throw error;
    }
    this.#isolation = isolate(this.interfaceIndex, this.interfaceName);
    this.warnings = [...this.#socket.warnings, ...this.#isolation.warnings];
  }

  #openSocket(): PacketSocket {
    return this.#pair.namespace.run(() =>
      openPacketSocket({
        interfaceName: INNER_NAME,
        name: this.interfaceName,
        originalDevice: true,
        promiscuous: false,
        receiveSlots: this.#receiveSlots,
      }),
    );
  }

  /** To wait for packets with epoll; another one behind {@link mend}. */
  get fileDescriptor(): number {
    return this.#socket.fileDescriptor;
  }

  /** Look at the inner end, such as when the loop reports an error of the descriptor. @returns 'gone' when somebody deleted it */
  refresh(): PortState {
    return this.#socket.refresh();
  }

  /**
   * Look at the devices. The calling thread has to be in the namespace of the ports.
   * @returns what somebody has done to them; null for nothing
   * @throws SystemError
   */
  trouble(): PuntTrouble | null {
    if (this.#closed) return null;
    const outer = stateOfPuntPair(this.#pair);
    const inner = this.#socket.refresh();
    if (outer === 'gone' || inner === 'gone') return 'gone';
    if (outer === 'down' || inner === 'down') return 'down';
    return this.#isolation.holds() ? null : 'open';
  }

  /**
   * Have the devices as they were: made anew under the same interface index, set up, or with the kernel kept off. Claims stay. The calling thread has to be
   * in the namespace of the ports.
   * @param trouble what {@link trouble} has found; after 'gone' there is another descriptor to wait on, and what had come and was not taken is lost
   * @throws SystemError; then all is as it was
   */
  mend(trouble: PuntTrouble): void {
    if (trouble === 'down') settlePuntPair(this.interfaceName, this.#pair);
    else if (trouble === 'open') this.#isolation.putBack();
    else this.#renew();
  }

  #renew(): void {
    renewPuntPair(this.interfaceName, this.#pair);
    const { receivedPackets, receivedBytes, receiveRingFull, receiveTruncated, receiveMalformed } =
      this.#socket.counters;
    // It holds the place of the one that follows.
    this.#socket.close();
    this.#socket = this.#openSocket();
    const former = this.#former;
    former.receivedPackets += receivedPackets;
    former.receivedBytes += receivedBytes;
    former.ringFull += receiveRingFull;
    former.truncated += receiveTruncated;
    former.malformed += receiveMalformed;
    this.#isolation.close();
    this.#isolation = isolate(this.interfaceIndex, this.interfaceName);
  }

  /** The private namespace, for tests and tools. */
  get namespace(): NetworkNamespace {
    return this.#pair.namespace;
  }

  /** Counters; reading them asks the kernel for the packets it had no slot for. */
  get counters(): PuntCounters {
    const counters = this.#socket.counters;
    const former = this.#former;
    return {
      receivedPackets: former.receivedPackets + counters.receivedPackets,
      receivedBytes: former.receivedBytes + counters.receivedBytes,
      ringFull: former.ringFull + counters.receiveRingFull,
      truncated: former.truncated + counters.receiveTruncated,
      malformed: former.malformed + counters.receiveMalformed,
      unclaimed: this.#unclaimed,
    };
  }

  /**
   * Take the packets of a port from now on.
   * @param interfaceIndex of the port's device
   * @returns how far the handler has come. A program that counts what it hands up can tell by it whether something of a port is still on its way,
   *   as long as the channel's counters tell of no loss
   * @throws RangeError when somebody has them already
   */
  claim(interfaceIndex: InterfaceIndex, handler: PuntHandler): PuntClaim {
    if (this.#claims.has(interfaceIndex))
      throw new RangeError(`packets of interface ${interfaceIndex} are claimed already`);
    const claim: Claim = { handler, handled: 0, batch: new Batch() };
    this.#claims.set(interfaceIndex, claim);
    return claim;
  }

  /** Packets of this port are dropped and counted from now on, also those that are being handed out. No claim is no error. */
  disclaim(interfaceIndex: InterfaceIndex): void {
    const claim = this.#claims.get(interfaceIndex);
    if (claim === undefined) return;
    claim.handler = null;
    this.#claims.delete(interfaceIndex);
  }

  /**
   * Take packets from the ring and hand them to their ports' handlers, to each one batch.
   * @param limit most packets to take
   * @returns how many were taken; less than the limit means that the ring was empty then
   */
  receive(limit: number = BATCH_SIZE): number {
    const batch = this.#batch;
    const count = this.#socket.receive(batch, limit);
    if (count === 0) return 0;
    const touched = this.#touched;
    let marked = false;
    let lastOrigin = -1;
    let claim: Claim | undefined;
    for (let i = 0; i < count; i += 1) {
      const packet = batch.packets[i];
      const origin = this.#socket.originOf(packet);
      if (origin !== lastOrigin) {
        claim = this.#claims.get(origin);
        lastOrigin = origin;
      }
      if (claim === undefined) {
        this.#unclaimed += 1;
        packet.release();
        continue;
      }
      if (packet.timestampSeconds === 0) {
        const recordLength = this.#socket.recordLengthOf(packet);
        marked = this.#stamp(packet, marked);
        if (recordLength > 0) {
          this.#resume(claim, packet, recordLength);
          continue;
        }
      }
      if (claim.batch.count === 0) touched.push(claim);
      claim.batch.push(packet);
    }
    batch.clear();
    this.#handOut();
    return count;
  }

  /** A packet that brought its port in place of its time came in just now. @param read whether the clock has been read for this batch */
  #stamp(packet: Packet, read: boolean): true {
    if (!read) this.#clock.read();
    packet.timestampSeconds = this.#clock.seconds;
    packet.timestampNanoseconds = this.#clock.nanoseconds;
    return true;
  }

  /** Hand out a packet with a record, behind all that came before it. */
  #resume(claim: Claim, packet: Packet, length: number): void {
    this.#handOut();
    const { handler } = claim;
    if (handler?.onResumed === undefined) {
      this.#unclaimed += 1;
      packet.release();
      return;
    }
    const record = this.#record;
    record.bytes = packet.bytes;
    record.at = this.#socket.recordStartOf(packet);
    record.length = length;
    handler.onResumed(packet, record);
    claim.handled += 1;
  }

  #handOut(): void {
    const touched = this.#touched;
    for (let i = 0; i < touched.length; i += 1) {
      const claim = touched[i];
      const { handler, batch } = claim;
      const count = batch.count;
      if (handler !== null) {
        handler.onPunted(batch);
        batch.clear();
        claim.handled += count;
      } else {
        this.#unclaimed += count;
        batch.releaseAll();
      }
    }
    touched.length = 0;
  }

  /**
   * Stop receiving. Devices that a file keeps stay, and programs may go on redirecting to them: what comes meanwhile is lost. Others go.
   * Closing twice is harmless.
   */
  close(): void {
    this.#end(false);
  }

  /** Stop receiving, and take the devices away, kept or not. */
  remove(): void {
    this.#end(true);
  }

  #end(remove: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    this.#isolation.close();
    if (remove || this.#path === null) removePuntPair(this.#pair, this.#path);
    else this.#pair.namespace.close();
  }
}
