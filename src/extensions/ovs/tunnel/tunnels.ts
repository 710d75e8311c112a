/**
 * The tunnel ports of all datapaths: ports without a device. A packet that is output to one gets outer headers by its tunnel key and leaves as the host's routes say; a frame of a tunnel that comes for
 * an address of this host comes in through the tunnel's port, with the key that its outer headers make.
 *
 * An outer packet that leaves by a bridge's own port has come from there: it enters that bridge as if Linux had sent it. By another port of a datapath, or another interface of the host, it simply goes out.
 * Neighbours: waiting.ts has packets wait for their way, receiving.ts and drops.ts are what they say. The headers are the room tunnels/.
 */
import { Drop, type FlowKey, HashSecret, TUNNEL_WORDS } from '../../../flow/index.ts';
import {
  Batch,
  completeChecksum,
  copyPacket,
  fragmentPacket,
  Gso,
  HeaderOffsets,
  type HostPath,
  type HostTables,
  PATH_STATE_TEXTS,
  type Packet,
  PacketPool,
  PathQuery,
  PathState,
  SegmentResult,
} from '../../../net/index.ts';
import {
  Decapsulator,
  Encapsulator,
  encapsulateSegments,
  RowEncapsulator,
  SttReceiver,
  TunnelKind,
  TunnelPort,
  TunnelPorts,
  TunnelResult,
  TunnelWord,
  tooBigAnswer,
} from '../../../tunnels/index.ts';
import { VportType } from '../abi.ts';
import type { OvsDevice, TunnelSurroundings } from '../host.ts';
import { cutAsItCame, Outbound } from '../outbound.ts';
import { type Buffers, plainPackets } from '../plain.ts';
import type { Vport } from '../vport.ts';
import { dropOfPath, dropOfResult } from './drops.ts';
import type { TunnelledDatapath, TunnelPlace } from './place.ts';
import { hasCongestionMark, isTunnelled } from './receiving.ts';
import { WaitingPacket } from './waiting.ts';

/** Of {@link Tunnels.take}: the frame is no tunnel's. */
export const NOT_TUNNELLED = -1;

/** Headroom for the longest outer headers: Ethernet, IPv6, UDP, Geneve with all its options. */
const HEADROOM_BYTES = 384;
const SMALL = { packets: 2048, bufferBytes: 2304 + HEADROOM_BYTES, headroomBytes: HEADROOM_BYTES };
const LARGE = { packets: 64, bufferBytes: 66_048 + HEADROOM_BYTES, headroomBytes: HEADROOM_BYTES };
/** Frames of STT that wait for segments lie in buffers of their own. */
const STT_BUFFERS = { packets: 64, bufferBytes: 65_664 };

const KINDS = new Map<number, number>([
  [VportType.GRE, TunnelKind.GRE],
  [VportType.VXLAN, TunnelKind.VXLAN],
  [VportType.GENEVE, TunnelKind.GENEVE],
  [VportType.STT, TunnelKind.STT],
]);

/** Whether a type of port is a tunnel's. */
export function isTunnelType(type: number): boolean {
  return KINDS.has(type);
}

/** What there is from the first tunnel port on. */
interface Means {
  readonly tables: HostTables;
  readonly small: PacketPool;
  readonly large: PacketPool;
  readonly encapsulator: Encapsulator;
  readonly rows: RowEncapsulator;
  readonly decapsulator: Decapsulator;
  readonly stt: SttReceiver;
  readonly unlisten: () => void;
}

/** An interface of the host that is no port of a datapath. */
interface HostInterface {
  readonly device: OvsDevice;
  isWaiting: boolean;
}

/** A port of a datapath with a device. */
interface Exit {
  readonly datapath: TunnelledDatapath;
  readonly vport: Vport;
  readonly device: OvsDevice;
}

export class Tunnels {
  readonly #surroundings: TunnelSurroundings;
  readonly #datapaths: ReadonlyMap<number, TunnelledDatapath>;
  readonly #buffers: Buffers;
  readonly #nowMs: () => number;
  readonly #ports = new TunnelPorts();
  readonly #places = new Map<number, TunnelPlace>();
  #nextId = 1;
  #means: Means | null = null;
  readonly #query = new PathQuery();
  readonly #words = new Uint32Array(TUNNEL_WORDS);
  readonly #headers = new HeaderOffsets();
  readonly #outbound: Outbound;
  readonly #interfaces = new Map<number, HostInterface | null>();
  /** By interface, as far as it was asked for: the port of a datapath that it is; null for none. */
  readonly #exits = new Map<number, Exit | null>();
  /** A batch for each call that is under way: an outer packet may go into a tunnel again. */
  readonly #batches: Batch[] = [];
  #depth = 0;
  /** Packets that wait for their way, which go when there is no tunnel any more. */
  readonly #waiting = new Set<WaitingPacket>();

  /** @param datapaths all that there are */
  constructor(
    surroundings: TunnelSurroundings,
    datapaths: ReadonlyMap<number, TunnelledDatapath>,
    buffers: Buffers,
    nowMs: () => number,
  ) {
    this.#surroundings = surroundings;
    this.#datapaths = datapaths;
    this.#buffers = buffers;
    this.#nowMs = nowMs;
    this.#outbound = new Outbound(buffers);
  }

  /** Whether there is any tunnel port. */
  get hasPorts(): boolean {
    return this.#places.size > 0;
  }

  /** A tunnel port has come. @returns false when there is one for its UDP or TCP port, or for GRE, already */
  add(datapath: TunnelledDatapath, vport: Vport): boolean {
    const kind = KINDS.get(vport.type);
    if (kind === undefined) return false;
    const { destinationPort, groupPolicy } = vport;
    const transport = kind === TunnelKind.GRE ? {} : { transportPort: destinationPort };
    const layer3 = kind === TunnelKind.GRE;
    const port = new TunnelPort({ kind, ...transport, groupPolicy, layer3, id: this.#nextId });
    if (!this.#ports.add(port)) return false;
    this.#nextId += 1;
    this.#places.set(port.id, { datapath, vport, port });
    if (this.#places.size === 1) this.#begin();
    return true;
  }

  remove(vport: Vport): void {
    for (const [id, place] of this.#places) {
      if (place.vport !== vport) continue;
      this.#ports.remove(place.port);
      this.#places.delete(id);
      if (this.#places.size === 0) this.#end();
      return;
    }
  }

  #begin(): void {
    let tables: HostTables;
    try {
      tables = this.#surroundings.tables();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#surroundings.warn(`nothing is sent through tunnels, as the host's routes cannot be asked: ${why}`);
      return;
    }
    const secret = new HashSecret();
    const large = new PacketPool(LARGE);
    const encapsulator = new Encapsulator({ secret });
    const stt = new SttReceiver({ nowMs: this.#nowMs, pool: new PacketPool(STT_BUFFERS), secret });
    this.#means = {
      tables,
      small: new PacketPool(SMALL),
      large,
      encapsulator,
      rows: new RowEncapsulator(encapsulator, large),
      decapsulator: new Decapsulator(this.#ports, stt),
      stt,
      unlisten: tables.addresses.listen(() => this.#addressesChanged()),
    };
    this.#portsChanged();
  }

  #end(): void {
    const means = this.#means;
    for (const one of [...this.#waiting]) means?.tables.giveBack(one);
    this.#means = null;
    means?.unlisten();
    means?.stt.close();
    for (const one of this.#interfaces.values()) one?.device.close();
    this.#interfaces.clear();
    this.#portsChanged();
  }

  #addressesChanged(): void {
    this.exitsChanged();
    // What could not be sent by may be another interface now.
    for (const [index, one] of this.#interfaces) if (one === null) this.#interfaces.delete(index);
    this.#portsChanged();
  }

  /** Which of the bridges' own ports take frames of tunnels follows from the host's addresses. */
  #portsChanged(): void {
    for (const datapath of this.#datapaths.values()) datapath.portsChanged();
  }

  /** Close all. Packets that wait are dropped. */
  close(): void {
    this.#places.clear();
    if (this.#means !== null) this.#end();
  }

  /**
   * Whether frames of tunnels may come to a port: a bridge's own one that has an address of the host. What goes out there has to be looked at.
   */
  isEndpoint(vport: Vport): boolean {
    const means = this.#means;
    const { device, type } = vport;
    if (means === null || device === null || type !== VportType.INTERNAL) return false;
    return means.tables.addresses
      .list()
      .some(
        ({ interfaceIndex, isIpv6, words }) =>
          interfaceIndex === device.interfaceIndex && !(isIpv6 && isLinkLocal(words[0])),
      );
  }

  /**
   * Send a packet through a tunnel. Its reference stays the caller's.
   * @param key has the tunnel's key as its egress part
   * @returns 0, also for a packet that waits for its way, or a reason of Drop
   */
  send(packet: Packet, vport: Vport, key: FlowKey): number {
    const place = this.#placeOf(vport);
    if (place === null || this.#means === null) return Drop.TUNNEL_UNAVAILABLE;
    if (!key.hasEgress) return Drop.TUNNEL_KEY_MISSING;
    if (key.largestFragmentBytes === 0) return this.#sendOne(packet, place, key.egress, key.l3Type);
    const pieces = this.#borrowBatch();
    try {
      const refusal = cutAsItCame(packet, key, this.#headers, this.#buffers, pieces);
      if (refusal !== 0) return refusal;
      let worst = 0;
      for (let i = 0; i < pieces.count; i += 1) {
        const result = this.#sendOne(pieces.packets[i], place, key.egress, key.l3Type);
        if (result !== 0) worst = result;
      }
      return worst;
    } finally {
      this.#returnBatch(pieces);
    }
  }

  #sendOne(packet: Packet, place: TunnelPlace, words: Uint32Array, l3Type: number): number {
    const means = this.#means;
    if (means === null) return Drop.TUNNEL_UNAVAILABLE;
    const version = words[TunnelWord.IP] >>> 24;
    if (version !== 4 && version !== 6) return Drop.TUNNEL_BAD_KEY;
    const path = means.tables.find(this.#ask(place, words));
    if (path.state === PathState.READY) return this.#sendOn(packet, place, words, l3Type, path);
    if (path.state !== PathState.RESOLVING) return dropOfPath(path.state);
    packet.hold();
    const waiting = new WaitingPacket(place, words.slice(), l3Type, (...what) => this.#goOn(...what));
    this.#waiting.add(waiting);
    if (means.tables.wait(path, packet, waiting)) return 0;
    this.#waiting.delete(waiting);
    packet.release();
    return Drop.TUNNEL_NO_ROOM;
  }

  /** What a packet with this key would meet. The way is asked for, as for a packet, but nothing waits. */
  explain(vport: Vport, key: FlowKey): { readonly text: string; readonly drop: number } {
    const means = this.#means;
    const place = this.#placeOf(vport);
    if (place === null || means === null) {
      return { text: "the host's routes cannot be asked", drop: Drop.TUNNEL_UNAVAILABLE };
    }
    const version = key.egress[TunnelWord.IP] >>> 24;
    if (!key.hasEgress || (version !== 4 && version !== 6)) {
      return { text: 'the flow does not say where its other end is', drop: Drop.TUNNEL_KEY_MISSING };
    }
    const path = means.tables.find(this.#ask(place, key.egress));
    const drop = dropOfPath(path.state);
    if (path.state !== PathState.READY) return { text: PATH_STATE_TEXTS[path.state], drop };
    const by = this.#exitBy(path.interfaceIndex)?.vport.name ?? `interface ${path.interfaceIndex} of the host`;
    return { text: `its packets leave by ${by}, ${path.mtuBytes} bytes at most`, drop };
  }

  /** What decides about the way of a packet with this tunnel key. */
  #ask(place: TunnelPlace, words: Uint32Array): PathQuery {
    const query = this.#query;
    query.isIpv6 = words[TunnelWord.IP] >>> 24 === 6;
    for (let i = 0; i < 4; i += 1) {
      query.source[i] = words[TunnelWord.SOURCE + i];
      query.destination[i] = words[TunnelWord.DESTINATION + i];
    }
    query.trafficClass = (words[TunnelWord.IP] >>> 16) & 0xff;
    query.asker = place.port.id;
    return query;
  }

  /** The path of a packet that waited is known now, or will not be. Its reference is ours. */
  #goOn(packet: Packet, waiting: WaitingPacket, path: HostPath, state: number): void {
    this.#waiting.delete(waiting);
    const { place, words, l3Type } = waiting;
    const isThere = this.#placeOf(place.vport) === place;
    let refusal: number = Drop.PORT_MISSING;
    if (isThere)
      refusal =
        state === PathState.READY
          ? this.#sendOn(packet, place, words, l3Type, path)
          : dropOfPath(state) || Drop.TUNNEL_NO_NEIGHBOUR;
    packet.release();
    if (refusal !== 0) {
      place.vport.unsent += 1;
      place.datapath.droppedLater(refusal);
    }
    this.flush();
  }

  /** @returns 0 or a reason of Drop */
  #sendOn(packet: Packet, place: TunnelPlace, words: Uint32Array, l3Type: number, path: HostPath): number {
    const means = this.#means;
    if (means === null) return Drop.TUNNEL_UNAVAILABLE;
    if (!path.hasEthernet) return Drop.TUNNEL_NO_INTERFACE;
    const { interfaceIndex, mtuBytes } = path;
    const outer = this.#borrowBatch();
    try {
      const result = this.#encapsulate(means, packet, place.port, words, l3Type, path, outer);
      if (result === TunnelResult.TOO_BIG) return this.#tellTooBig(means, packet, place, words, l3Type, path.source);
      const drop = dropOfResult(result);
      if (drop !== 0) return drop;
      const counters = place.vport.tunnelCounters;
      counters.transmittedPackets += 1;
      counters.transmittedBytes += packet.length;
      let refusal = 0;
      for (let i = 0; i < outer.count; i += 1) {
        const refused = this.#deliver(means, outer.packets[i], interfaceIndex, mtuBytes);
        if (refused !== 0) refusal = refused;
      }
      return refusal;
    } finally {
      this.#returnBatch(outer);
    }
  }

  /** Append the packet with outer headers, in pieces where it has to be cut first. The packet itself stays as it is. @returns a TunnelResult */
  #encapsulate(
    means: Means,
    packet: Packet,
    port: TunnelPort,
    words: Uint32Array,
    l3Type: number,
    path: HostPath,
    out: Batch,
  ): number {
    const { encapsulator, rows, small, large } = means;
    if (packet.gsoType !== Gso.NONE && port.kind !== TunnelKind.STT && l3Type === 0) {
      const result = rows.encapsulate(packet, port, words, 0, path, out);
      if (result !== TunnelResult.SEGMENT_FIRST) return result;
      return encapsulateSegments(encapsulator, packet, l3Type, port, words, 0, path, small, out);
    }
    // Others may send the same bytes, with another header before them.
    const copy = copyPacket(packet, packet.length > small.maxFrameBytes ? large : small);
    if (copy === null) return TunnelResult.NO_BUFFER;
    const result = encapsulator.encapsulate(copy, l3Type, port, words, 0, path);
    if (result === TunnelResult.DONE || result === TunnelResult.TO_FRAGMENT) {
      out.push(copy);
      return result;
    }
    try {
      if (result !== TunnelResult.SEGMENT_FIRST) return result;
      return encapsulateSegments(encapsulator, copy, l3Type, port, words, 0, path, small, out);
    } finally {
      copy.release();
    }
  }

  /** Answer the sender inside of the tunnel, as if from the other end. @returns 0 or a reason of Drop */
  #tellTooBig(
    means: Means,
    packet: Packet,
    place: TunnelPlace,
    words: Uint32Array,
    l3Type: number,
    source: Int32Array,
  ): number {
    const answer = tooBigAnswer(packet, l3Type, means.encapsulator.innerMtuBytes, means.small);
    if (answer === null) return Drop.TUNNEL_TOO_BIG;
    const back = this.#words;
    back.set(words);
    for (let i = 0; i < 4; i += 1) {
      back[TunnelWord.SOURCE + i] = words[TunnelWord.DESTINATION + i];
      back[TunnelWord.DESTINATION + i] = words[TunnelWord.SOURCE + i] || source[i];
    }
    place.datapath.receiveTunnelled(answer, place.vport.number, back, l3Type);
    return Drop.TUNNEL_TOO_BIG;
  }

  /** Send an outer packet, whose reference stays the caller's, in pieces where the path takes no more. @returns 0 or a reason of Drop */
  #deliver(means: Means, outer: Packet, interfaceIndex: number, mtuBytes: number): number {
    // A super-packet of STT's is cut where it goes out.
    const headers = this.#headers;
    headers.parse(outer);
    if (outer.gsoType !== Gso.NONE || outer.length - headers.l3Offset <= mtuBytes) {
      return this.#leave(outer, interfaceIndex);
    }
    if (completeChecksum(outer) === SegmentResult.CHECKSUM_PLACE) return Drop.OFFLOAD_UNFINISHED;
    const pieces = this.#borrowBatch();
    try {
      const identification = Math.floor(Math.random() * 0x1_0000_0000);
      const result = fragmentPacket(outer, headers, mtuBytes, identification, means.small, pieces);
      if (result !== SegmentResult.DONE) return Drop.TUNNEL_TOO_BIG;
      let refusal = 0;
      for (let i = 0; i < pieces.count; i += 1) {
        const refused = this.#leave(pieces.packets[i], interfaceIndex);
        if (refused !== 0) refusal = refused;
      }
      return refusal;
    } finally {
      this.#returnBatch(pieces);
    }
  }

  /** @returns 0 or a reason of Drop */
  #leave(outer: Packet, interfaceIndex: number): number {
    const exit = this.#exitBy(interfaceIndex);
    if (exit !== null) {
      const { datapath, vport, device } = exit;
      if (vport.type !== VportType.INTERNAL) return datapath.sendBy(vport, device, outer);
      outer.hold();
      datapath.receiveTunnelled(outer, vport.number, null, 0);
      return 0;
    }
    const one = this.#interfaceOf(interfaceIndex);
    if (one === null) return Drop.TUNNEL_NO_INTERFACE;
    const refusal = this.#outbound.send(one, one.device, outer);
    // It is gone, and another one may have come in its place.
    if (refusal === Drop.OUTPUT_REFUSED) this.#forget(interfaceIndex, one);
    return refusal;
  }

  #exitBy(interfaceIndex: number): Exit | null {
    const known = this.#exits.get(interfaceIndex);
    // A device that came back has another index.
    if (known === null || known?.device.interfaceIndex === interfaceIndex) return known;
    let found: Exit | null = null;
    for (const datapath of this.#datapaths.values()) {
      for (const vport of datapath.ports.values()) {
        const { device } = vport;
        if (device?.interfaceIndex === interfaceIndex) found = { datapath, vport, device };
      }
    }
    this.#exits.set(interfaceIndex, found);
    return found;
  }

  /** Ports of datapaths come and go. */
  exitsChanged(): void {
    this.#exits.clear();
  }

  #interfaceOf(interfaceIndex: number): HostInterface | null {
    const known = this.#interfaces.get(interfaceIndex);
    if (known !== undefined) return known;
    const device = this.#surroundings.openInterface(interfaceIndex);
    const one = device === null ? null : { device, isWaiting: false };
    this.#interfaces.set(interfaceIndex, one);
    return one;
  }

  #forget(interfaceIndex: number, one: HostInterface | null): void {
    this.#outbound.flush();
    one?.device.close();
    this.#interfaces.delete(interfaceIndex);
  }

  /** What goes out by interfaces of the host is sent. */
  flush(): void {
    this.#outbound.flush();
  }

  /**
   * Take a frame that was to go to a bridge's own port, where it is a tunnel's and for this host. Its reference stays the caller's.
   * @returns 0 when it was taken, NOT_TUNNELLED when it is to go on its way, or a reason of Drop
   */
  take(packet: Packet): number {
    const means = this.#means;
    if (means === null || !isTunnelled(packet, this.#ports, means.tables.addresses)) return NOT_TUNNELLED;
    // The mark is written into the packet inside, and others may have the same bytes.
    const marked = hasCongestionMark(packet);
    const { small, large } = means;
    const pool = packet.length > small.maxFrameBytes ? large : small;
    const inner = marked ? copyPacket(packet, pool) : this.#buffers.clones.clone(packet);
    if (inner === null) return Drop.NO_BUFFER;
    const result = this.#takeOne(means, inner);
    if (result !== TunnelResult.SEGMENT_FIRST) return this.#outcomeOf(result);
    const pieces = this.#borrowBatch();
    try {
      if (!plainPackets(packet, this.#buffers, pieces)) return Drop.OFFLOAD_UNFINISHED;
      let worst = 0;
      for (let i = 0; i < pieces.count; i += 1) {
        pieces.packets[i].hold();
        const outcome = this.#outcomeOf(this.#takeOne(means, pieces.packets[i]));
        if (outcome !== 0) worst = outcome;
      }
      return worst;
    } finally {
      this.#returnBatch(pieces);
    }
  }

  #outcomeOf(result: number): number {
    if (result === TunnelResult.NOT_TUNNELLED || result === TunnelResult.FRAGMENT) return NOT_TUNNELLED;
    return dropOfResult(result);
  }

  /** @param packet its reference passes over @returns a TunnelResult */
  #takeOne(means: Means, packet: Packet): number {
    const { decapsulator } = means;
    const words = this.#words;
    words.fill(0);
    const result = decapsulator.decapsulate(packet, words, 0);
    const place = decapsulator.port === null ? undefined : this.#places.get(decapsulator.port.id);
    const inner = decapsulator.whole ?? packet;
    if (inner !== packet || result !== TunnelResult.DONE || place === undefined) packet.release();
    if (result !== TunnelResult.DONE || place === undefined) return result;
    const counters = place.vport.tunnelCounters;
    counters.receivedPackets += 1;
    counters.receivedBytes += inner.length;
    place.datapath.receiveTunnelled(inner, place.vport.number, words, decapsulator.l3Type);
    return result;
  }

  #placeOf(vport: Vport): TunnelPlace | null {
    for (const place of this.#places.values()) if (place.vport === vport) return place;
    return null;
  }

  #borrowBatch(): Batch {
    let batch = this.#batches[this.#depth];
    if (batch === undefined) {
      batch = new Batch();
      this.#batches[this.#depth] = batch;
    }
    this.#depth += 1;
    return batch;
  }

  #returnBatch(batch: Batch): void {
    this.#depth -= 1;
    batch.releaseAll();
  }
}

/** Addresses of fe80::/10 are on every interface. */
function isLinkLocal(word: number): boolean {
  return word >>> 22 === 0xfe80 >>> 6;
}
