/** A frame that matches a recalled flow: what its key says, with headers around it that are sound. */
import { TAG_PRESENT, Word } from '../../flow/index.ts';
import { EtherType, IpProtocol } from '../../net/index.ts';

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
/** Enough for the header of any protocol that has ports. */
const TRANSPORT_BYTES = 20;

/** Longest frame: two tags and IPv6. */
export const RECALLED_BYTES = 14 + 8 + IPV6_BYTES + TRANSPORT_BYTES;

/** @param key words of a flow key @returns the frame */
export function recalledFrame(key: Uint32Array): Uint8Array {
  const frame = new Uint8Array(RECALLED_BYTES);
  const view = new DataView(frame.buffer);
  for (let i = 0; i < 3; i += 1) view.setUint32(i * 4, key[Word.MAC + i]);
  let at = 12;
  for (const word of [Word.VLAN, Word.INNER_VLAN]) {
    if ((key[word] & TAG_PRESENT) === 0) continue;
    // Of an inner tag the mask may say no more than that it is there.
    view.setUint16(at, key[word] >>> 16 || EtherType.VLAN);
    view.setUint16(at + 2, key[word] & 0xffff & ~TAG_PRESENT);
    at += 4;
  }
  const type = key[Word.ETH_TYPE] >>> 16;
  view.setUint16(at, type);
  at += 2;
  const protocol = key[Word.IP] >>> 24;
  if (type === EtherType.IPV4) {
    view.setUint8(at, 0x45);
    view.setUint16(at + 2, IPV4_BYTES + TRANSPORT_BYTES);
    view.setUint8(at + 8, 64);
    view.setUint8(at + 9, protocol);
    view.setUint32(at + 12, key[Word.IPV4_SOURCE]);
    view.setUint32(at + 16, key[Word.IPV4_DESTINATION]);
    at = transport(view, at + IPV4_BYTES, protocol, key);
  } else if (type === EtherType.IPV6) {
    view.setUint8(at, 0x60);
    view.setUint16(at + 4, TRANSPORT_BYTES);
    view.setUint8(at + 6, protocol);
    view.setUint8(at + 7, 64);
    for (let i = 0; i < 8; i += 1) view.setUint32(at + 8 + i * 4, key[Word.IPV6_SOURCE + i]);
    at = transport(view, at + IPV6_BYTES, protocol, key);
  }
  return frame.subarray(0, Math.max(at, 60));
}

/** @returns the end of the frame */
function transport(view: DataView, at: number, protocol: number, key: Uint32Array): number {
  view.setUint32(at, key[Word.PORTS]);
  if (protocol === IpProtocol.TCP) view.setUint16(at + 12, 0x5000 | ((key[Word.TCP_FLAGS] >>> 16) & 0x0fff));
  if (protocol === IpProtocol.UDP) view.setUint16(at + 4, TRANSPORT_BYTES);
  return at + TRANSPORT_BYTES;
}
