/**
 * What the learning extension would do with a packet, in words: the same questions in the same order as extension.ts asks them,
 * without learning anything.
 */
import { formatMac, isLinkLocalControl, type Packet } from '../../net/index.ts';
import {
  DropReason,
  type Explanation,
  type ForwardingContext,
  Learned,
  type StandardPolicies,
} from '../../switch/index.ts';
import { type ForwardingDatabase, macKey, PortFlag } from './forwarding-database.ts';

/** What the explanation looks at. */
export interface ForwardingState {
  readonly database: ForwardingDatabase;
  readonly policies: StandardPolicies;
  readonly forwardLinkLocal: boolean;
  /** Drop reason of an address with a static entry elsewhere. */
  readonly staticElsewhere: number;
  readonly nowSeconds: number;
}

const LEARNED_TEXT: Readonly<Record<number, string>> = {
  [Learned.KNOWN]: 'is known behind this port',
  [Learned.NEW]: 'would be learned behind this port',
  [Learned.MOVED]: 'would move to this port',
  [Learned.LIMIT]: 'would not be learned: the port is at its limit',
  [Learned.FULL]: 'would not be learned: the table is full of static entries',
  [Learned.EXCHANGED]: 'would be learned behind this port, in the place of another: the table is full',
  [Learned.STATIC_ELSEWHERE]: 'has a static entry behind another port',
};

/** See Extension.explain. */
export function explainForwarding(packet: Packet, context: ForwardingContext, state: ForwardingState): Explanation {
  const { database, policies, nowSeconds } = state;
  const lines: string[] = [];
  const drop = (reason: number): Explanation => ({ lines, drop: reason });
  if (context.verdict !== DropReason.NONE) return drop(context.verdict);
  const bytes = packet.bytes;
  const at = packet.offset;
  const source = macKey(bytes.subarray(at + 6, at + 12));
  if ((source.high & 0x0100) !== 0 || (source.high | source.low) === 0) return drop(DropReason.INVALID_SOURCE_MAC);
  if (!state.forwardLinkLocal && isLinkLocalControl(packet)) return drop(DropReason.LINK_LOCAL_CONTROL);
  const flags = database.portFlags[context.sourcePortId];
  if ((flags & PortFlag.NO_LEARNING) === 0) {
    const learned = database.table.wouldLearn(context.vlan, source.high, source.low, context.sourcePortId, nowSeconds);
    lines.push(`source ${formatMac(bytes, at + 6)} ${LEARNED_TEXT[learned]}`);
    if (learned === Learned.STATIC_ELSEWHERE) return drop(state.staticElsewhere);
    if (learned === Learned.LIMIT && (flags & PortFlag.DROP_OVER_LIMIT) !== 0) return drop(DropReason.MAC_LIMIT);
  } else {
    lines.push('addresses are not learned on this port');
  }
  const text = formatMac(bytes, at);
  const destination = macKey(bytes.subarray(at, at + 6));
  const group = (destination.high & 0x0100) !== 0;
  if (destination.high === source.high && destination.low === source.low) return drop(DropReason.DESTINATION_IS_SOURCE);
  const found = group ? 0 : database.table.lookup(context.vlan, destination.high, destination.low, nowSeconds);
  const portId = found & 0xffff;
  if (found !== 0) {
    lines.push(`destination ${text} is behind port ${database.nameOf(portId)} in VLAN ${context.vlan}`);
    if (portId === context.sourcePortId) return drop(DropReason.DESTINATION_IS_SOURCE);
    const verdict = policies.egressVerdict(packet, portId);
    if (verdict === DropReason.NONE) {
      const nicIndex = policies.destinationNic(portId, found >>> 16);
      return { lines, destinations: [{ portId, nicIndex, flags: policies.destinationFlags(portId) }] };
    }
    if (verdict !== DropReason.NIC_NOT_CONNECTED) return drop(verdict);
    lines.push('its NIC is not connected');
  }
  lines.push(`destination ${text} is ${group ? 'a group address' : 'not known'}: flooded in VLAN ${context.vlan}`);
  const destinations = policies
    .floodPorts(packet)
    .map((id) => ({ portId: id, nicIndex: 0, flags: policies.destinationFlags(id) }));
  return destinations.length === 0 ? drop(DropReason.NO_DESTINATION) : { lines, destinations };
}
