/** What the adapters of this folder have in common: their settings' defaults, and the size of their buffers. */
import { Offload } from '../adapter.ts';
import { ETHERNET_BYTES, TAG_BYTES } from '../wire/numbers.ts';

/** Settings of an adapter that is not a device. */
export interface AdapterSettings {
  name: string;
  /** Six bytes; by default a locally administered address made from the name. */
  macAddress?: Uint8Array;
  /** Largest layer-3 packet in bytes, 1500 by default. */
  mtuBytes?: number;
  /** Bits of Offload that the adapter takes; all by default. */
  offloads?: number;
}

/** Longest super-packet: 64 KB of IP behind an Ethernet header and two tags. */
const LONGEST_SUPER_PACKET_BYTES = 65_535 + 22;
const HEADROOM_BYTES = 128;

/** A unicast, locally administered MAC address that is the same for the same name (FNV-1a). */
export function macAddressFromName(name: string): Uint8Array {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i += 1) {
    hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  }
  return new Uint8Array([0x02, 0x4d, hash >>> 24, hash >>> 16, hash >>> 8, hash]);
}

/** Buffers that hold whatever a link with these settings carries. */
export function bufferSettings(mtuBytes: number, offloads: number): { bufferBytes: number; headroomBytes: number } {
  const superPackets = (offloads & (Offload.TSO4 | Offload.TSO6 | Offload.USO)) !== 0;
  const frameBytes = superPackets
    ? Math.max(LONGEST_SUPER_PACKET_BYTES, mtuBytes + 22)
    : mtuBytes + ETHERNET_BYTES + 2 * TAG_BYTES;
  // A multiple of 64 keeps each buffer on cache lines of its own.
  return { bufferBytes: Math.ceil((HEADROOM_BYTES + frameBytes) / 64) * 64, headroomBytes: HEADROOM_BYTES };
}
