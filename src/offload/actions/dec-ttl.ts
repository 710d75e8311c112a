/** DEC_TTL as eBPF, for packets that have time left; the others are punted, so that its list is the engine's alone. */
import { R1, R2, R5 } from '../../bpf/index.ts';
import { EtherType } from '../../net/index.ts';
import { header, loadWindow } from './checks.ts';
import type { ListCompiler } from './compile.ts';
import { compileSetIpv4, compileSetIpv6, storeHeader } from './ip.ts';
import { network16 } from './order.ts';
import type { StepCode } from './shape.ts';
import { difference, updateSum } from './sums.ts';
import { RECOMPUTE } from './writer.ts';

export type DecTtlStep = { readonly kind: 'decTtl'; readonly version: 4 | 6 };

export function compileDecTtl(list: ListCompiler): boolean {
  const { state } = list;
  const { checks } = list.all;
  if (state.etherType === -1) return list.refuse('dec_ttl without a match on the EtherType');
  if (!state.keyHolds) return list.refuse('dec_ttl behind MPLS');
  const isIpv4 = state.etherType === EtherType.IPV4;
  // Other packets have no time to live, and stay as they are.
  if (!isIpv4 && state.etherType !== EtherType.IPV6) return true;
  if (!state.layer3Known)
    return list.refuse('dec_ttl behind a tag on packets of which the flow does not know the tags');
  if (state.ttl === -2) return list.refuse('dec_ttl behind a masked set of the time to live');
  if (state.ttl !== -1 && state.ttl <= 1) return list.refuse('a time to live that runs out');
  checks.layer3Bytes = Math.max(checks.layer3Bytes, isIpv4 ? 20 : 40);
  list.all.needsLayer3 = true;
  state.changed = true;
  if (state.ttl === -1) {
    state.decrements += 1;
    checks.ttlAbove = Math.max(checks.ttlAbove, state.decrements);
    checks.ttlVersion = isIpv4 ? 4 : 6;
    return list.push({ kind: 'decTtl', version: isIpv4 ? 4 : 6 });
  }
  state.ttl -= 1;
  const pairs = new Int32Array(isIpv4 ? 6 : 20);
  pairs[0] = state.ttl << 8;
  pairs[1] = 0xff00;
  return (isIpv4 ? compileSetIpv4 : compileSetIpv6)(list, pairs);
}

export const decTtl: StepCode<DecTtlStep> = {
  name: ({ version }) => `dec_ttl${version}`,
  parameters: () => 0,
  emit(writer, { version }) {
    const { b } = writer;
    loadWindow(writer, version);
    if (version === 4) {
      const field = header(writer, 8);
      b.mov(R5, 0);
      b.load(R1, 'u16', field);
      b.mov(R2, R1);
      b.sub(R2, network16(0x0100));
      b.store('u16', field, R2);
      difference(b, 16, [R5]);
      updateSum(b, header(writer, 10), R5, false);
      storeHeader(writer, 20, 0, false);
      return;
    }
    const field = header(writer, 7);
    b.load(R1, 'u8', field);
    b.sub(R1, 1);
    b.store('u8', field, R1);
    storeHeader(writer, 40, RECOMPUTE, false);
  },
};
