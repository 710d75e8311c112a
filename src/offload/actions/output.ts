/** OUTPUT and TRUNC as eBPF: the packet is given away, or a copy of it is sent. */
import { at, R0, R1, R2, R3, R6, R7, SK_BUFF, XDP } from '../../bpf/index.ts';
import { REDIRECT_MARK } from '../../host/index.ts';
import { toKeyPort } from '../../net/index.ts';
import type { ListCompiler } from './compile.ts';
import { emitLength } from './length.ts';
import type { StepCode } from './shape.ts';
import type { ShapeWriter } from './writer.ts';

/** Parameters: ifindex, redirect flags. `last` gives the packet away, else a copy goes. */
export type OutputStep = { readonly kind: 'output'; readonly last: boolean };

/** A parameter: most bytes of the output that follows. */
export type TruncStep = { readonly kind: 'trunc' };

/** The kernel cuts no packet within its headers, which are never longer than this; behind an output it is too late to find out. */
const SAFE_LIMIT_BYTES = 256;

export function compileOutput(list: ListCompiler, words: Int32Array, at: number): boolean {
  const { context, checks } = list.all;
  const { state } = list;
  const port = toKeyPort(words[at + 1]);
  const target = context.port(port);
  if (target === null) {
    return list.refuse(`output to port ${port}, which ${context.absenceOf?.(port) ?? 'has no interface'}`);
  }
  if (target.isDown === true) {
    // The port counts what would have gone there.
    list.limit = -1;
    state.lost = true;
    return true;
  }
  const isXdp = context.hook === 'xdp';
  if (state.sent && isXdp) return list.refuse('output to several ports');
  if (list.cut) return list.refuse('actions behind a truncated output');
  if (isXdp && !target.xdp) return list.refuse(`output to port ${port}, which XDP cannot send to`);
  if (list.limit !== -1) {
    if (!isXdp && state.changed) return list.refuse('truncation of a changed packet');
    if (state.sent && list.limit < SAFE_LIMIT_BYTES) return list.refuse('short truncation behind an output');
    checks.single = true;
    list.push({ kind: 'trunc' }, list.limit);
    list.cut = true;
    list.limit = -1;
  }
  list.push({ kind: 'output', last: false }, target.ifindex, target.ingress ? 1 : 0);
  list.use();
  state.sent = true;
  return true;
}

export function compileTrunc(list: ListCompiler, words: Int32Array, at: number): boolean {
  list.limit = Math.min(words[at + 1] >>> 0, 0x7fff_ffff);
  return true;
}

export const output: StepCode<OutputStep> = {
  name: ({ last }) => (last ? 'output' : 'copy'),
  parameters: () => 2,
  check(writer, { last }) {
    // What is too long is for the engine to count.
    if (last) writer.emit.fits?.(at(R7, writer.parameter * 4), writer.failure);
  },
  emit: (writer, { last }) => (last ? give(writer) : copy(writer)),
};

function give(writer: ShapeWriter): void {
  const { b, emit } = writer;
  const ifindex = writer.next();
  const flags = writer.next();
  emit.observe?.(ifindex);
  emit.copyOut?.(ifindex);
  if (writer.isTc) {
    mark(writer);
    b.load(R1, 'u32', ifindex);
    b.load(R2, 'u32', flags);
    b.callHelper('redirect');
    b.exit();
    return;
  }
  if (emit.devices === undefined) throw new Error('XDP sends through a map of devices');
  b.load(R2, 'u32', ifindex);
  b.loadMap(R1, emit.devices);
  b.mov(R3, XDP.ABORTED);
  b.callHelper('redirect_map');
  b.jumpIf(R0, '!=', XDP.REDIRECT, writer.failure);
  b.exit();
}

/** The isolation of the port that it leaves through lets it pass. */
function mark({ b }: ShapeWriter): void {
  b.mov(R1, REDIRECT_MARK);
  b.store('u32', at(R6, SK_BUFF.tcIndex), R1);
}

function copy(writer: ShapeWriter): void {
  const { b, emit } = writer;
  const ifindex = writer.next();
  const flags = writer.next();
  b.block((sent) => {
    b.block((tooLong) => {
      emit.fits?.(ifindex, tooLong);
      emit.observe?.(ifindex);
      emit.copyOut?.(ifindex);
      mark(writer);
      b.load(R2, 'u32', ifindex);
      b.load(R3, 'u32', flags);
      b.mov(R1, R6);
      b.callHelper('clone_redirect');
      b.jumpIf(R0, '==', 0, sent);
    });
    emit.lost?.();
  });
}

export const trunc: StepCode<TruncStep> = {
  name: () => 'trunc',
  parameters: () => 1,
  emit(writer) {
    const { b } = writer;
    const limit = writer.next();
    emitLength(b, writer.isTc);
    b.load(R2, 'u32', limit);
    b.block((leave) => {
      b.jumpIf(R1, '<=', R2, leave);
      if (writer.isTc) {
        b.load(R3, 'u32', at(R6, SK_BUFF.vlanPresent));
        b.if(R3, '!=', 0, () => b.sub(R2, 4));
        b.mov(R1, R6);
        b.mov(R3, 0);
        b.callHelper('skb_change_tail');
      } else {
        b.sub(R2, R1);
        b.mov(R1, R6);
        b.callHelper('xdp_adjust_tail');
      }
      writer.mustBeZero();
    });
    writer.layer3Valid = false;
  },
};
