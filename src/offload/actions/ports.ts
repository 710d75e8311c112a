/** set of TCP and UDP ports as eBPF. */
import { at, R1, R2, R5, R6, R8, R9 } from '../../bpf/index.ts';
import { EtherType, Fragment, IpProtocol } from '../../net/index.ts';
import { word } from './compilation.ts';
import type { ListCompiler } from './compile.ts';
import { needPlain } from './ip.ts';
import { formWords, type StepCode, type WordForm } from './shape.ts';
import { fold32, MANGLED_0, replaceSum, setWord, TRANSPORT, updateSum } from './sums.ts';
import { RECOMPUTE } from './writer.ts';

export interface PortsStep {
  readonly kind: 'ports';
  readonly version: 4 | 6;
  readonly word: WordForm;
  readonly transport: 'tcp' | 'udp';
}

/** @param pairs the ports with their mask */
export function compileSetPorts(list: ListCompiler, isTcp: boolean, pairs: Int32Array): boolean {
  const { all, state } = list;
  if (!state.keyHolds) return list.refuse('set behind MPLS');
  const protocol = isTcp ? IpProtocol.TCP : IpProtocol.UDP;
  if (state.protocol !== protocol) return list.refuse('set of ports without a match on the protocol');
  const version = state.etherType === EtherType.IPV4 ? 4 : state.etherType === EtherType.IPV6 ? 6 : 0;
  if (version === 0) return list.refuse('set of ports without a match on the EtherType');
  // A later fragment has no ports, and stays as it is.
  if (state.fragment === Fragment.LATER) return true;
  if (!list.needLayer3((version === 4 ? 20 : 40) + (isTcp ? 20 : 8))) return false;
  if (version === 4 && state.fragment === -1) all.checks.notLater = true;
  needPlain(all, version, protocol);
  const form = word(list.piece, pairs[0], pairs[1]);
  if (form === '-') return true;
  return list.change({ kind: 'ports', version, word: form, transport: isTcp ? 'tcp' : 'udp' });
}

export const ports: StepCode<PortsStep> = {
  name: ({ transport, version, word }) => `${transport}${version}(${word})`,
  parameters: ({ word }) => formWords(word),
  emit(writer, step) {
    const { b } = writer;
    const headerBytes = step.version === 4 ? 20 : 40;
    const isUdp = step.transport === 'udp';
    const field = headerBytes + TRANSPORT[step.transport].field;
    if (!writer.isTc) {
      writer.layer3();
      b.mov(R5, 0);
      setWord(writer, at(R8, headerBytes), step.word, [R5]);
      updateSum(b, at(R8, field), R5, isUdp);
      return;
    }
    b.block((leave) => {
      const ports = b.stack(8, 8);
      b.mov(R2, R8);
      b.add(R2, headerBytes);
      b.call('skb_load_bytes', R6, R2, ports, 8);
      writer.mustBeZero();
      b.mov(R9, 0);
      setWord(writer, ports, step.word, [R9], leave);
      fold32(b, R9, R1);
      b.mov(R5, 0);
      if (isUdp) {
        b.load(R1, 'u16', ports.at(6));
        b.if(R1, '==', 0, () => b.mov(R5, RECOMPUTE));
      }
      b.mov(R2, R8);
      b.add(R2, headerBytes);
      b.call('skb_store_bytes', R6, R2, ports, 4, R5);
      writer.mustBeZero();
      writer.changed = true;
      b.if(R9, '!=', 0, () => replaceSum(writer, field, R9, isUdp ? MANGLED_0 : 0));
    });
  },
};
