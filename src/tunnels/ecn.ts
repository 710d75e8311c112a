/**
 * Explicit congestion notification across tunnels (RFC 6040): on the way in the mark is copied out, on the way out both marks are joined. Everybody who marks or drops
 * by these rules asks here; the tables are those of the RFC.
 */
import { updateChecksum16 } from '../net/index.ts';

/** Code points, the low two bits of TOS and traffic class. */
export const Ecn = {
  NOT_ECT: 0,
  ECT_1: 1,
  ECT_0: 2,
  CE: 3,
} as const;

/** What {@link decapsulatedEcn} answers for a packet that has to be dropped. */
export const ECN_DROP = 4;

const { NOT_ECT, ECT_0, ECT_1, CE } = Ecn;
const DROP = ECN_DROP;

/** RFC 6040, figure 4: rows by the mark inside, columns by the mark outside, both in the order of their code points. */
const JOINED = Uint8Array.of(
  // outside: Not-ECT  ECT(1)   ECT(0)   CE
  ...[NOT_ECT, NOT_ECT, NOT_ECT, DROP], // inside: Not-ECT
  ...[ECT_1, ECT_1, ECT_1, CE], // ECT(1)
  ...[ECT_0, ECT_1, ECT_0, CE], // ECT(0)
  ...[CE, CE, CE, CE], // CE
);

/** The mark that a decapsulated packet has, or {@link ECN_DROP}. */
export function decapsulatedEcn(inner: number, outer: number): number {
  return JOINED[((inner & 3) << 2) | (outer & 3)];
}

/**
 * The outer TOS or traffic class of a packet that is encapsulated, in normal mode (RFC 6040, section 4.1): the mark inside is outside, too, whatever the
 * tunnel's own TOS says.
 * @param inner TOS or traffic class inside; 0 for what is not IP
 */
export function encapsulatedTos(tos: number, inner: number): number {
  return (tos & 0xfc) | (inner & 3);
}

/**
 * Write a mark into an IP header.
 * @param l3 index of the header, whose first 20 bytes are there
 * @param version 4 or 6
 */
export function setEcn(view: DataView, l3: number, version: number, ecn: number): void {
  const before = view.getUint16(l3);
  if (version === 6) {
    view.setUint16(l3, (before & 0xffcf) | (ecn << 4));
    return;
  }
  const after = (before & 0xfffc) | ecn;
  view.setUint16(l3, after);
  view.setUint16(l3 + 10, updateChecksum16(view.getUint16(l3 + 10), before, after));
}
