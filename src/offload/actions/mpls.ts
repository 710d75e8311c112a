/**
 * Ethernet addresses, VLAN tags and MPLS labels. At xdp everything lies in the packet, and its start moves; at tc the outermost tag
 * lies beside it, in the kernel's own keeping. Part of emit.ts.
 */
import { at, R1, R2, R3, R4, R6, R8 } from '../../bpf/index.ts';
import { EtherType } from '../../net/index.ts';
import { setWord } from './emit-sum.ts';
import { network16 } from './order.ts';
import type { WordForm } from './shape.ts';
import type { ShapeWriter } from './writer.ts';

/** Flag of bpf_skb_store_bytes: see emit-ip.ts. */
const RECOMPUTE = 1;
const ADDRESS_BYTES = 12;

export function emitEthernet(writer: ShapeWriter, words: readonly WordForm[]): void {
  const { b } = writer;
  if (!writer.isTc) {
    // R1 to R3 are needed for the fields.
    b.packetOfXdp(R6, R4, R2);
    b.needBytes(R4, R2, 14, R3, writer.failure);
    words.forEach((form, i) => {
      setWord(writer, at(R4, i * 4), form, []);
    });
    return;
  }
  if (words.every((form) => form === 'f')) {
    const first = writer.next();
    writer.parameter += 2;
    b.call('skb_store_bytes', R6, 0, first, ADDRESS_BYTES, 0);
    writer.mustBeZero();
    return;
  }
  b.scope(() => {
    const addresses = b.stack(ADDRESS_BYTES, 4);
    b.call('skb_load_bytes', R6, 0, addresses, ADDRESS_BYTES);
    writer.mustBeZero();
    words.forEach((form, i) => {
      setWord(writer, addresses.at(i * 4), form, []);
    });
    b.call('skb_store_bytes', R6, 0, addresses, ADDRESS_BYTES, 0);
    writer.mustBeZero();
  });
}

/** xdp: open a gap of four bytes behind the addresses. R1 is the packet's new start, with 18 bytes behind it. */
function openGap(writer: ShapeWriter): void {
  const { b } = writer;
  b.call('xdp_adjust_head', R6, -4);
  writer.mustBeZero();
  writer.changed = true;
  writer.packet(18);
  b.load(R3, 'u64', at(R1, 4));
  b.load(R4, 'u32', at(R1, 12));
  b.store('u64', at(R1, 0), R3);
  b.store('u32', at(R1, 8), R4);
}

/** xdp: move the addresses over the four bytes behind them; {@link dropGap} follows. R1 is the packet's old start. */
function closeGap(writer: ShapeWriter): void {
  const { b } = writer;
  writer.packet(18);
  b.load(R3, 'u64', at(R1, 0));
  b.load(R4, 'u32', at(R1, 8));
  b.store('u64', at(R1, 4), R3);
  b.store('u32', at(R1, 12), R4);
  writer.changed = true;
}

function dropGap(writer: ShapeWriter): void {
  writer.b.call('xdp_adjust_head', R6, 4);
  writer.mustBeZero();
}

/** @param onto a tag lies beside the packet, and goes into it */
export function emitPushVlan(writer: ShapeWriter, onto: boolean): void {
  const { b } = writer;
  const tag = writer.next();
  if (writer.isTc) {
    b.load(R3, 'u32', tag);
    b.mov(R2, R3);
    b.shr(R2, 16);
    b.toBigEndian(R2, 16);
    b.and(R3, 0xffff);
    b.mov(R1, R6);
    b.callHelper('skb_vlan_push');
    writer.mustBeZero();
    if (onto && writer.shape.needsLayer3) b.add(R8, 4);
    return;
  }
  openGap(writer);
  b.load(R3, 'u32', tag);
  b.toBigEndian(R3, 32);
  b.store('u32', at(R1, 12), R3);
  writer.moved(4);
}

/** @param next another tag lies behind, and comes out of the packet */
export function emitPopVlan(writer: ShapeWriter, next: boolean): void {
  const { b } = writer;
  if (writer.isTc) {
    b.call('skb_vlan_pop', R6);
    writer.mustBeZero();
    if (next && writer.shape.needsLayer3) b.sub(R8, 4);
    return;
  }
  closeGap(writer);
  dropGap(writer);
  writer.moved(-4);
}

/** Layer 3 begins at 14, behind the label as before it. */
export function emitPushMpls(writer: ShapeWriter): void {
  const { b } = writer;
  const entry = writer.next();
  const type = writer.next();
  if (!writer.isTc) {
    openGap(writer);
    b.load(R3, 'u32', type);
    b.store('u16', at(R1, 12), R3);
    b.load(R3, 'u32', entry);
    b.store('u32', at(R1, 14), R3);
    writer.layer3Valid = false;
    return;
  }
  b.scope(() => {
    const start = b.stack(24, 8);
    b.call('skb_load_bytes', R6, 0, start, ADDRESS_BYTES);
    writer.mustBeZero();
    b.load(R1, 'u32', type);
    b.store('u16', start.at(12), R1);
    b.load(R1, 'u32', entry);
    b.store('u16', start.at(14), R1);
    b.shr(R1, 16);
    b.store('u16', start.at(16), R1);
    b.call('skb_change_head', R6, 4, 0);
    writer.mustBeZero();
    writer.changed = true;
    b.call('skb_store_bytes', R6, 0, start, 18, 0);
    writer.mustBeZero();
  });
}

/**
 * At tc no helper takes bytes out of an MPLS packet. Tags can be taken out of any: the label and the EtherType before it are written
 * over with what makes two tags of them, and the kernel pops these, and notes the EtherType that comes to light.
 */
export function emitPopMpls(writer: ShapeWriter): void {
  const { b } = writer;
  const type = writer.next();
  if (!writer.isTc) {
    closeGap(writer);
    b.load(R3, 'u32', type);
    b.store('u16', at(R1, 16), R3);
    dropGap(writer);
    writer.layer3Valid = false;
    return;
  }
  const tag = network16(EtherType.VLAN);
  b.scope(() => {
    const bytes = b.stack(8, 8);
    for (let i = 0; i < 2; i += 1) {
      b.call('skb_vlan_push', R6, tag, 0);
      writer.mustBeZero();
      writer.changed = true;
    }
    // Behind the addresses there are now a tag, the EtherType of MPLS and the label.
    b.store('u16', bytes.at(0), tag);
    b.call('skb_store_bytes', R6, 16, bytes, 2, 0);
    writer.mustBeZero();
    b.store('u16', bytes.at(0), 0);
    b.load(R1, 'u32', type);
    b.store('u16', bytes.at(2), R1);
    b.call('skb_store_bytes', R6, 18, bytes, 4, RECOMPUTE);
    writer.mustBeZero();
    for (let i = 0; i < 3; i += 1) {
      b.call('skb_vlan_pop', R6);
      writer.mustBeZero();
    }
  });
}

/** The outermost label stack entry. */
export function emitSetMpls(writer: ShapeWriter, form: WordForm): void {
  const { b } = writer;
  if (!writer.isTc) {
    writer.layer3();
    setWord(writer, at(R8, 0), form, []);
    return;
  }
  b.scope(() => {
    const entry = b.stack(8, 8);
    b.call('skb_load_bytes', R6, R8, entry, 4);
    writer.mustBeZero();
    setWord(writer, entry, form, []);
    b.call('skb_store_bytes', R6, R8, entry, 4, RECOMPUTE);
    writer.mustBeZero();
  });
}
