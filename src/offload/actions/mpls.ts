/** PUSH_MPLS, ADD_MPLS before layer 3, POP_MPLS and the set of a label as eBPF, for packets without tags. Layer 3 begins at 14 throughout. */
import { at, R1, R3, R6, R8 } from '../../bpf/index.ts';
import { isMpls, MPLS_L3_TUNNEL } from '../../flow/index.ts';
import { EtherType, MAC_ADDRESSES_BYTES } from '../../net/index.ts';
import { word } from './compilation.ts';
import type { ListCompiler } from './compile.ts';
import { network16, network32 } from './order.ts';
import { formWords, type StepCode, type WordForm } from './shape.ts';
import { setWord } from './sums.ts';
import { closeGap, dropGap, openGap } from './vlan.ts';
import { RECOMPUTE } from './writer.ts';

/** Parameters: entry, EtherType in network order. */
export type PushMplsStep = { readonly kind: 'pushMpls' };

/** A parameter: the EtherType below, in network order. */
export type PopMplsStep = { readonly kind: 'popMpls' };

/** The outermost label stack entry. */
export type SetMplsStep = { readonly kind: 'setMpls'; readonly word: WordForm };

export function compilePushMpls(list: ListCompiler, words: Int32Array, at: number): boolean {
  if (hasTags(list)) return list.refuse('MPLS and VLAN tags together');
  needLabels(list, 0);
  list.state.etherType = words[at + 2];
  list.state.keyHolds = false;
  return list.push({ kind: 'pushMpls' }, network32(words[at + 1]), network16(words[at + 2]));
}

export function compileAddMpls(list: ListCompiler, words: Int32Array, at: number): boolean {
  if ((words[at + 3] & MPLS_L3_TUNNEL) === 0) return list.refuse('MPLS before the Ethernet header');
  return compilePushMpls(list, words, at);
}

export function compilePopMpls(list: ListCompiler, words: Int32Array, at: number): boolean {
  const { state } = list;
  const below = words[at + 1];
  if (hasTags(list)) return list.refuse('MPLS and VLAN tags together');
  if (!isMpls(state.etherType)) return list.refuse('pop_mpls without a match on the EtherType');
  state.popped += 1;
  needLabels(list, 4 * state.popped);
  state.etherType = below & 0xffff;
  state.keyHolds = false;
  return list.push({ kind: 'popMpls' }, network16(below));
}

/** @param pairs the outermost label stack entry with its mask */
export function compileSetMpls(list: ListCompiler, pairs: Int32Array): boolean {
  const { state } = list;
  if (!isMpls(state.etherType)) return list.refuse('set of MPLS without a match on the EtherType');
  if (!list.needLayer3(4 * (state.popped + 1))) return false;
  const form = word(list.piece, pairs[0], pairs[1]);
  return form === '-' || list.change({ kind: 'setMpls', word: form });
}

function hasTags({ all, state }: ListCompiler): boolean {
  return state.tags !== 0 || all.firstTags !== 0;
}

/** @param bytes of labels that must be there */
function needLabels({ all, state }: ListCompiler, bytes: number): void {
  const { checks } = all;
  all.needsLayer3 = true;
  checks.layer3At14 = true;
  checks.single = true;
  checks.tags = 'none';
  checks.layer3Bytes = Math.max(checks.layer3Bytes, bytes);
  state.changed = true;
}

export const pushMpls: StepCode<PushMplsStep> = {
  name: () => 'push_mpls',
  parameters: () => 2,
  emit(writer) {
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
      b.call('skb_load_bytes', R6, 0, start, MAC_ADDRESSES_BYTES);
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
  },
};

/**
 * At tc no helper takes bytes out of an MPLS packet. Tags can be taken out of any: the label and the EtherType before it are written
 * over with what makes two tags of them, and the kernel pops these, and notes the EtherType that comes to light.
 */
export const popMpls: StepCode<PopMplsStep> = {
  name: () => 'pop_mpls',
  parameters: () => 1,
  emit(writer) {
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
  },
};

export const setMpls: StepCode<SetMplsStep> = {
  name: ({ word }) => `mpls(${word})`,
  parameters: ({ word }) => formWords(word),
  emit(writer, { word }) {
    const { b } = writer;
    if (!writer.isTc) {
      writer.layer3();
      setWord(writer, at(R8, 0), word, []);
      return;
    }
    b.scope(() => {
      const entry = b.stack(8, 8);
      b.call('skb_load_bytes', R6, R8, entry, 4);
      writer.mustBeZero();
      setWord(writer, entry, word, []);
      b.call('skb_store_bytes', R6, R8, entry, 4, RECOMPUTE);
      writer.mustBeZero();
    });
  },
};
