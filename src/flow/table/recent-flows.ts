/**
 * Flows of packets that came lately, found by the packet's bytes alone, without a key: for untagged IPv4 that has just come in,
 * which is most of what a switch carries. An entry holds what all masks of its port together look at in such a packet, so a
 * packet that is equal in it falls to the same flow. Whatever is out of the ordinary is not found here, and loses nothing:
 * options, fragments, tags, lengths that lie, transport headers that are cut off while a mask looks at them. Collisions replace each other; who
 * makes them on purpose has packets looked up the usual way. Used by the datapath beside {@link FlowTable.lookup}.
 *
 * Where no mask of the port looks behind the Ethernet header, and nobody asks for TCP flags, that header with one tag at most is all that is compared, of whatever packet.
 *
 *     entry:  epoch | slot (-1 none) | generation | port | MAC addresses 96 | IP | ports | TCP flags | source | destination | recirculation | outputs | output | version
 *                                                        | MAC addresses 96 | EtherType | tag         ...             | recirculation ...
 *
 * Of a flow that does nothing but send its packets as they are, an entry also says where: to how many ports, and to which when it is one. It holds for a version of the table's actions.
 */
import {
  ETHERNET_BYTES,
  ETHERTYPE_MINIMUM,
  EtherType,
  Gso,
  IpProtocol,
  type Packet,
  TAG_BYTES,
} from '../../net/index.ts';
import { readWord } from '../bytes.ts';
import { hasLyingEnd, tcpFlagsAt } from '../key/extract-transport.ts';
import { FlowEtherType, Sound, TAG_PRESENT, Word } from '../key/layout.ts';
import type { FlowTable } from './table.ts';

/** Entries, a power of two. */
const ENTRIES = 4096;
const SHIFT = 4;

const IPV4_BYTES = 20;
const TRANSPORT = ETHERNET_BYTES + IPV4_BYTES;

/** No place in {@link RecentFlows} for the packet that was last asked for. */
const NOWHERE = -1;

export class RecentFlows {
  /** TCP flags of the packet that was last found. */
  tcpFlags = 0;
  readonly #table: FlowTable;
  readonly #readsTcpFlags: boolean;
  readonly #entries = new Int32Array(ENTRIES << SHIFT);
  /** The version of the masks of the present port: entries of another one are void. */
  #epoch = 0;
  #port = -1;
  #masksVersion = -1;
  /** Where the packet that was last asked for, and not found, has its place. */
  #place = NOWHERE;
  /** Where the one is that was last found. */
  #found = 0;
  // What the masks of the present port look at.
  #mac0 = 0;
  #mac1 = 0;
  #mac2 = 0;
  #type = 0;
  #tag = 0;
  /** Whether that is all. */
  #isShallow = false;
  #ip = 0;
  #ports = 0;
  #flags = 0;
  #looksAtTransport = false;
  #source = 0;
  #destination = 0;

  /** @param readsTcpFlags whether {@link tcpFlags} is wanted of every packet */
  constructor(table: FlowTable, readsTcpFlags: boolean) {
    this.#table = table;
    this.#readsTcpFlags = readsTcpFlags;
  }

  /**
   * The flow of a frame that has just come in: no metadata but the port, no tunnel. Whoever goes by it tells the table ({@link FlowTable.foundAgain}).
   * @param recircId of the key; 0 for what is not recirculated
   * @returns its slot, or -1 when it must be looked up; then {@link remember} what was found
   */
  find(packet: Packet, port: number, recircId: number): number {
    this.#place = NOWHERE;
    if (this.#table.masksVersion !== this.#masksVersion || port !== this.#port) this.#turnTo(port);
    return this.#isShallow ? this.#findByEthernet(packet, port, recircId) : this.#findByIpv4(packet, port, recircId);
  }

  #findByEthernet(packet: Packet, port: number, recircId: number): number {
    const { bytes } = packet;
    const at = packet.offset;
    if (packet.length < ETHERNET_BYTES + TAG_BYTES) return -1;
    let type = (bytes[at + 12] << 8) | bytes[at + 13];
    let tag = 0;
    if (type === EtherType.VLAN || type === EtherType.SERVICE_VLAN) {
      tag = ((type << 16) | (bytes[at + 14] << 8) | bytes[at + 15] | TAG_PRESENT) & this.#tag;
      type = (bytes[at + 16] << 8) | bytes[at + 17];
      if (type === EtherType.VLAN || type === EtherType.SERVICE_VLAN) return -1;
    }
    // What is a length has its type elsewhere, if any; and a broken header of service chaining is refused.
    if (type < ETHERTYPE_MINIMUM || type === FlowEtherType.NSH) return -1;
    type = (type << 16) & this.#type;
    const mac0 = readWord(bytes, at) & this.#mac0;
    const mac1 = readWord(bytes, at + 4) & this.#mac1;
    const mac2 = readWord(bytes, at + 8) & this.#mac2;
    let hash = Math.imul(mac0 ^ type ^ (mac1 << 16), 0x9e37_79b1) + Math.imul(mac2 ^ tag ^ mac1, 0x85eb_ca6b);
    hash ^= port ^ (recircId << 8);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b_3c6d);
    const place = ((hash >>> 12) & (ENTRIES - 1)) << SHIFT;
    const entries = this.#entries;
    if (
      entries[place] === this.#epoch &&
      entries[place + 3] === port &&
      entries[place + 4] === mac0 &&
      entries[place + 5] === mac1 &&
      entries[place + 6] === mac2 &&
      entries[place + 7] === type &&
      entries[place + 8] === tag &&
      entries[place + 12] === recircId
    ) {
      const slot = entries[place + 1];
      if (slot !== -1 && this.#table.isStill(slot, entries[place + 2])) {
        this.#found = place;
        return slot;
      }
    }
    entries[place] = this.#epoch;
    entries[place + 1] = -1;
    entries[place + 3] = port;
    entries[place + 4] = mac0;
    entries[place + 5] = mac1;
    entries[place + 6] = mac2;
    entries[place + 7] = type;
    entries[place + 8] = tag;
    entries[place + 12] = recircId;
    this.#place = place;
    return -1;
  }

  #findByIpv4(packet: Packet, port: number, recircId: number): number {
    const { bytes, length } = packet;
    const at = packet.offset;
    if (length < TRANSPORT || packet.gsoType === Gso.UDP) return -1;
    if (((bytes[at + 12] << 8) | bytes[at + 13]) !== EtherType.IPV4 || bytes[at + 14] !== 0x45) return -1;
    const totalLength = (bytes[at + 16] << 8) | bytes[at + 17];
    if (totalLength < IPV4_BYTES || hasLyingEnd(length - ETHERNET_BYTES - totalLength)) return -1;
    const end = ETHERNET_BYTES + totalLength;
    // More fragments, or an offset.
    if ((bytes[at + 20] & 0x3f) !== 0 || bytes[at + 21] !== 0) return -1;
    const protocol = bytes[at + 23];
    let tcpFlags = 0;
    let ports = 0;
    if (protocol === IpProtocol.TCP) {
      tcpFlags = tcpFlagsAt(packet, TRANSPORT, end);
      if (tcpFlags === -1) return -1;
      ports = readWord(bytes, at + TRANSPORT) & this.#ports;
    } else if (this.#looksAtTransport) {
      if (protocol !== IpProtocol.UDP || end < TRANSPORT + 8) return -1;
      ports = readWord(bytes, at + TRANSPORT) & this.#ports;
    }
    const mac0 = readWord(bytes, at) & this.#mac0;
    const mac1 = readWord(bytes, at + 4) & this.#mac1;
    const mac2 = readWord(bytes, at + 8) & this.#mac2;
    const ip = ((protocol << 24) | (bytes[at + 15] << 16) | (bytes[at + 22] << 8)) & this.#ip;
    const source = readWord(bytes, at + 26) & this.#source;
    const destination = readWord(bytes, at + 30) & this.#destination;
    const flags = tcpFlags & this.#flags;

    let hash = mac1 ^ port ^ Math.imul(recircId, 0x9e37_79b1);
    hash = (hash + Math.imul(mac0 ^ mac2, 0x9e37_79b1)) | 0;
    hash = (hash + Math.imul(source ^ ip, 0x85eb_ca6b)) | 0;
    hash = (hash + Math.imul(destination, 0xc2b2_ae35)) | 0;
    hash = (hash + Math.imul(ports, 0x27d4_eb2f)) | 0;
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b_3c6d);
    const place = ((hash >>> 12) & (ENTRIES - 1)) << SHIFT;
    const entries = this.#entries;
    if (
      entries[place] === this.#epoch &&
      entries[place + 3] === port &&
      entries[place + 4] === mac0 &&
      entries[place + 5] === mac1 &&
      entries[place + 6] === mac2 &&
      entries[place + 7] === ip &&
      entries[place + 8] === ports &&
      entries[place + 9] === flags &&
      entries[place + 10] === source &&
      entries[place + 11] === destination &&
      entries[place + 12] === recircId
    ) {
      const slot = entries[place + 1];
      if (slot !== -1 && this.#table.isStill(slot, entries[place + 2])) {
        this.tcpFlags = tcpFlags;
        this.#found = place;
        return slot;
      }
    }
    entries[place] = this.#epoch;
    entries[place + 1] = -1;
    entries[place + 3] = port;
    entries[place + 4] = mac0;
    entries[place + 5] = mac1;
    entries[place + 6] = mac2;
    entries[place + 7] = ip;
    entries[place + 8] = ports;
    entries[place + 9] = flags;
    entries[place + 10] = source;
    entries[place + 11] = destination;
    entries[place + 12] = recircId;
    this.#place = place;
    return -1;
  }

  /** The packet that {@link find} did not find falls to this flow. To be called before anything else happens to the table. */
  remember(slot: number): void {
    if (this.#place === NOWHERE) return;
    this.#entries[this.#place + 1] = slot;
    this.#entries[this.#place + 2] = this.#table.generationOf(slot);
    this.#entries[this.#place + 15] = -1;
  }

  /** Whether it is known where the flow that was last found sends packets, if it does nothing else: {@link outputs} and {@link output}. */
  get knowsOutputs(): boolean {
    return this.#entries[this.#found + 15] === this.#table.actionsVersion;
  }

  /** To how many ports; 0 when it does something else. */
  get outputs(): number {
    return this.#entries[this.#found + 13];
  }

  /** To which, when it is one. */
  get output(): number {
    return this.#entries[this.#found + 14];
  }

  noteOutputs(outputs: number, output: number): void {
    this.#entries[this.#found + 13] = outputs;
    this.#entries[this.#found + 14] = output;
    this.#entries[this.#found + 15] = this.#table.actionsVersion;
  }

  #turnTo(port: number): void {
    this.#masksVersion = this.#table.masksVersion;
    this.#port = port;
    const { union, version } = this.#table.masksOf(port);
    this.#epoch = version;
    this.#mac0 = union[Word.MAC] | 0;
    this.#mac1 = union[Word.MAC + 1] | 0;
    this.#mac2 = union[Word.MAC + 2] | 0;
    this.#ip = union[Word.IP] | 0;
    this.#ports = union[Word.PORTS] | 0;
    this.#flags = union[Word.TCP_FLAGS] >>> 16;
    this.#looksAtTransport = (this.#ports | this.#flags | (union[Word.ETH_TYPE] & Sound.TRANSPORT)) !== 0;
    this.#type = union[Word.ETH_TYPE] | 0;
    this.#tag = union[Word.VLAN] | 0;
    this.#isShallow = !this.#readsTcpFlags && (this.#type & 0xffff) === 0;
    for (let word: number = Word.IP; word < Word.TUNNEL; word += 1) if (union[word] !== 0) this.#isShallow = false;
    this.tcpFlags = 0;
    this.#source = union[Word.IPV4_SOURCE] | 0;
    this.#destination = union[Word.IPV4_DESTINATION] | 0;
  }
}
