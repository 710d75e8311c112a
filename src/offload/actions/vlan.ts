/**
 * PUSH_VLAN and POP_VLAN as eBPF. At xdp everything lies in the packet, and its start moves; at tc the outermost tag lies beside it, in the
 * kernel's own keeping.
 */
import { at, R1, R2, R3, R4, R6, R8 } from '../../bpf/index.ts';
import { TAG_PRESENT } from '../../flow/index.ts';
import type { Compilation } from './compilation.ts';
import type { ListCompiler } from './compile.ts';
import type { StepCode } from './shape.ts';
import type { ShapeWriter } from './writer.ts';

/** A parameter: TPID 16 | TCI 16, in host order. `onto`: a tag lies beside the packet, and goes into it. */
export type PushVlanStep = { readonly kind: 'pushVlan'; readonly onto: boolean };

/** `next`: another tag lies behind, comes out of the packet and becomes the outer one. */
export type PopVlanStep = { readonly kind: 'popVlan'; readonly next: boolean };

/** tc: the tags that the packet has to begin with. */
function checkTags({ checks, firstTags }: Compilation): void {
  if (firstTags !== -1) checks.tags = (['none', 'one', 'two'] as const)[firstTags];
}

export function compilePushVlan(list: ListCompiler, words: Int32Array, at: number): boolean {
  const { state } = list;
  checkTags(list.all);
  if (state.tags === -1) state.layer3Known = list.all.context.hook === 'xdp';
  const onto = state.tags > 0;
  if (state.tags !== -1) state.tags += 1;
  state.changed = true;
  return list.push({ kind: 'pushVlan', onto }, (words[at + 1] & ~TAG_PRESENT) >>> 0);
}

export function compilePopVlan(list: ListCompiler): boolean {
  const { state } = list;
  if (state.tags === 0) return true;
  if (state.tags === -1) return list.refuse('pop_vlan without a match on the tag');
  checkTags(list.all);
  state.tags -= 1;
  state.changed = true;
  const next = state.tags > 0;
  // Whether there is a second tag is checked where tags lie beside the packet; where they lie in it, it need not be known.
  if (!next && list.all.context.hook === 'xdp') state.tags = state.tags === 0 ? -1 : state.tags;
  return list.push({ kind: 'popVlan', next });
}

export const pushVlan: StepCode<PushVlanStep> = {
  name: ({ onto }) => (onto ? 'push_vlan(onto)' : 'push_vlan'),
  parameters: () => 1,
  emit(writer, { onto }) {
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
  },
};

export const popVlan: StepCode<PopVlanStep> = {
  name: ({ next }) => (next ? 'pop_vlan(next)' : 'pop_vlan'),
  parameters: () => 0,
  emit(writer, { next }) {
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
  },
};

/** xdp: open a gap of four bytes behind the addresses. R1 is the packet's new start, with 18 bytes behind it. */
export function openGap(writer: ShapeWriter): void {
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
export function closeGap(writer: ShapeWriter): void {
  const { b } = writer;
  writer.packet(18);
  b.load(R3, 'u64', at(R1, 0));
  b.load(R4, 'u32', at(R1, 8));
  b.store('u64', at(R1, 4), R3);
  b.store('u32', at(R1, 12), R4);
  writer.changed = true;
}

/** xdp: the packet's start moves over what {@link closeGap} has left. */
export function dropGap(writer: ShapeWriter): void {
  writer.b.call('xdp_adjust_head', R6, 4);
  writer.mustBeZero();
}
