/** Upcalls: packets as messages of ovs_packet to whoever makes flows. Super-packets go up in segments, checksums complete. */

import { type FlowKey, KEY_WORDS, Userspace, UserspaceFlag, unpackBytes, Word } from '../../flow/index.ts';
import { Batch, type Packet } from '../../net/index.ts';
import { MessageWriter } from '../../netlink/index.ts';
import { Family, PacketAttribute, PacketCommand } from './abi.ts';
import type { PseudoDevice } from './device/pseudo-device.ts';
import { beginFrame, beginObject } from './device/reply.ts';
import { type Buffers, plainPackets } from './plain.ts';
import { encodeActions } from './translate/actions-encode.ts';
import { encodeKey } from './translate/key-encode.ts';
import { encodeTunnel } from './translate/tunnel.ts';

/** The action that an upcall reports. */
export interface UserspaceAction {
  readonly words: Int32Array;
  readonly at: number;
  readonly list: { readonly from: number; readonly end: number };
  readonly lengthBytes: number;
}

/** Longest packet that fits an attribute. */
const PACKET_MAXIMUM_BYTES = 0xffff - 4;

export class UpcallSender {
  readonly #device: PseudoDevice;
  readonly #buffers: Buffers;
  readonly #writer = new MessageWriter({ initialBytes: 128 * 1024 });
  readonly #packets = new Batch();

  constructor(device: PseudoDevice, buffers: Buffers) {
    this.#device = device;
    this.#buffers = buffers;
  }

  /**
   * Send a packet up.
   * @param action null for a miss
   * @returns false when any of it was lost
   */
  send(interfaceIndex: number, pid: number, packet: Packet, key: FlowKey, action: UserspaceAction | null): boolean {
    if (pid === 0) return false;
    const packets = this.#packets;
    if (!plainPackets(packet, this.#buffers, packets)) return false;
    let all = true;
    try {
      for (let i = 0; i < packets.count; i += 1) {
        if (!this.#sendOne(interfaceIndex, pid, packets.packets[i], key, action)) all = false;
      }
    } finally {
      packets.releaseAll();
    }
    return all;
  }

  #sendOne(interfaceIndex: number, pid: number, packet: Packet, key: FlowKey, action: UserspaceAction | null): boolean {
    if (packet.length > PACKET_MAXIMUM_BYTES) return false;
    const writer = this.#writer;
    beginFrame(writer);
    const command = action === null ? PacketCommand.MISS : PacketCommand.ACTION;
    beginObject(writer, { family: Family.PACKET, command, version: 1, interfaceIndex }, 0, 0, 0);
    encodeKey(writer, PacketAttribute.KEY, key.words, key.words, false);
    let length = packet.length;
    if (action !== null) {
      this.#describe(action, key);
      length = Math.min(length, action.lengthBytes);
      if (length < packet.length) writer.u32(PacketAttribute.LEN, packet.length);
    }
    writer.bytes(PacketAttribute.PACKET, packet.bytes.subarray(packet.offset, packet.offset + length));
    writer.end();
    return this.#device.upcall(pid, key.words[Word.IN_PORT], writer.view());
  }

  #describe(action: UserspaceAction, key: FlowKey): void {
    const writer = this.#writer;
    const { words, at } = action;
    const flags = words[at + Userspace.FLAGS];
    if ((flags & UserspaceFlag.USERDATA) !== 0) {
      const userdata = unpackBytes(words, at + Userspace.USERDATA, words[at + Userspace.USERDATA_BYTES]);
      writer.bytes(PacketAttribute.USERDATA, userdata);
    }
    if ((flags & UserspaceFlag.TUNNEL_PORT) !== 0 && key.hasEgress) {
      const egress = new Uint32Array(KEY_WORDS);
      egress.set(key.egress, Word.TUNNEL);
      encodeTunnel(writer, PacketAttribute.EGRESS_TUN_KEY, egress);
    }
    if ((flags & UserspaceFlag.ACTIONS) !== 0) {
      encodeActions(writer, PacketAttribute.ACTIONS, words, action.list.from, action.list.end);
    }
  }
}
