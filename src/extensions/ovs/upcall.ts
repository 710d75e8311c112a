/** Upcalls: packets as messages of ovs_packet to whoever makes flows. Super-packets go up in segments, checksums complete. */

import { type FlowKey, KEY_WORDS, Userspace, UserspaceFlag, unpackBytes, Word } from '../../flow/index.ts';
import { Batch, Fragment, Gso, type Packet } from '../../net/index.ts';
import { MessageWriter, NetlinkError } from '../../netlink/index.ts';
import { Family, PacketAttribute, PacketCommand } from './abi.ts';
import type { PseudoDevice } from './device/pseudo-device.ts';
import { beginFrame, beginObject } from './device/reply.ts';
import { type Buffers, plainPackets } from './plain.ts';
import { encodeActions } from './translate/actions.ts';
import { encodeKey } from './translate/key-encode.ts';
import { encodeTunnel } from './translate/tunnel.ts';

/** The tunnel port through which a packet is about to leave. */
export interface EgressPort {
  /** UDP port; 0 for a tunnel without. */
  readonly destinationPort: number;
}

/** The action that an upcall reports. */
export interface UserspaceAction {
  readonly words: Int32Array;
  readonly at: number;
  readonly list: { readonly from: number; readonly end: number };
  readonly lengthBytes: number;
  /** Where the action says that the packet goes, when there is such a port. */
  readonly egress: EgressPort | null;
}

/** What an upcall tells besides the packet and its key. */
export interface UpcallInfo {
  /** Null for a miss. */
  readonly action: UserspaceAction | null;
  /** Of the connection, 32 bits, and bits of PacketHash. */
  readonly hash: readonly [low: number, high: number];
  /** Whether it may be sent with others: see {@link PseudoDevice.upcall}. */
  readonly isBundled: boolean;
}

/** Longest packet that fits an attribute. */
const PACKET_MAXIMUM_BYTES = 0xffff - 4;

export class UpcallSender {
  readonly #device: PseudoDevice;
  readonly #buffers: Buffers;
  readonly #writer = new MessageWriter({ initialBytes: 128 * 1024 });
  readonly #packets = new Batch();
  readonly #hash = new Uint32Array(2);
  readonly #hashBytes = new Uint8Array(this.#hash.buffer);

  constructor(device: PseudoDevice, buffers: Buffers) {
    this.#device = device;
    this.#buffers = buffers;
  }

  /**
   * Send a packet up.
   * @returns false when any of it was lost
   */
  send(interfaceIndex: number, pid: number, packet: Packet, key: FlowKey, info: UpcallInfo): boolean {
    if (pid === 0 || this.#device.isLost(pid, key.words[Word.IN_PORT])) return false;
    const packets = this.#packets;
    if (!plainPackets(packet, this.#buffers, packets)) return false;
    // Of a datagram in fragments the key describes the first.
    const inFragments = packet.gsoType === Gso.UDP;
    const ip = key.words[Word.IP];
    let all = true;
    try {
      for (let i = 0; i < packets.count; i += 1) {
        if (inFragments && i > 0) key.words[Word.IP] = (ip & ~0xff) | Fragment.LATER;
        if (!this.#sendOne(interfaceIndex, pid, packets.packets[i], key, info)) all = false;
      }
    } finally {
      key.words[Word.IP] = ip;
      packets.releaseAll();
    }
    return all;
  }

  /** The attributes in the order of openvswitch.ko. */
  #sendOne(interfaceIndex: number, pid: number, packet: Packet, key: FlowKey, info: UpcallInfo): boolean {
    if (packet.length > PACKET_MAXIMUM_BYTES) return false;
    const { action } = info;
    const writer = this.#writer;
    beginFrame(writer);
    const command = action === null ? PacketCommand.MISS : PacketCommand.ACTION;
    beginObject(writer, { family: Family.PACKET, command, version: 1, interfaceIndex }, 0, 0, 0);
    encodeKey(writer, PacketAttribute.KEY, key.words, key.words);
    let length = packet.length;
    if (action !== null) {
      if (!this.#describe(action, key, info.hash[0])) return false;
      length = Math.min(length, action.lengthBytes);
    }
    if (key.largestFragmentBytes !== 0) writer.u16(PacketAttribute.MRU, key.largestFragmentBytes);
    if (length < packet.length) writer.u32(PacketAttribute.LEN, packet.length);
    this.#hash[0] = info.hash[0];
    this.#hash[1] = info.hash[1];
    writer.bytes(PacketAttribute.HASH, this.#hashBytes);
    writer.bytes(PacketAttribute.PACKET, packet.bytes.subarray(packet.offset, packet.offset + length));
    writer.end();
    return this.#device.upcall(pid, key.words[Word.IN_PORT], writer.view(), info.isBundled);
  }

  /** @returns false when the action's list is too long to be told */
  #describe(action: UserspaceAction, key: FlowKey, hash: number): boolean {
    const writer = this.#writer;
    const { words, at, egress } = action;
    const flags = words[at + Userspace.FLAGS];
    if ((flags & UserspaceFlag.USERDATA) !== 0) {
      const userdata = unpackBytes(words, at + Userspace.USERDATA, words[at + Userspace.USERDATA_BYTES]);
      writer.bytes(PacketAttribute.USERDATA, userdata);
    }
    if (egress !== null && key.hasEgress) {
      const tunnel = new Uint32Array(KEY_WORDS);
      tunnel.set(key.egress, Word.TUNNEL);
      // The ports that the outer header will have.
      if (egress.destinationPort !== 0) tunnel[Word.TUNNEL_PORTS] = (sourcePort(hash) << 16) | egress.destinationPort;
      encodeTunnel(writer, PacketAttribute.EGRESS_TUN_KEY, tunnel);
    }
    if ((flags & UserspaceFlag.ACTIONS) !== 0) {
      const before = writer.length;
      try {
        encodeActions(writer, PacketAttribute.ACTIONS, words, action.list.from, action.list.end);
      } catch (error) {
        if (!(error instanceof NetlinkError)) throw error;
        // Left out, as the kernel leaves out what does not fit.
        writer.truncate(before);
        return false;
      }
    }
    return true;
  }
}

/** A UDP port that is the same for all packets of a connection: of the range that Linux takes for connections of its own. */
function sourcePort(hash: number): number {
  return 32_768 + (hash % 28_232);
}
