/**
 * The switch's own forwarding: MAC learning within the forwarding domain, with the standard policies enforced. It runs when no
 * forwarding extension is enabled, and for packets that are natively forwarded.
 */
import { nicIn, portIn } from '../../decide/index.ts';
import { isLinkLocalControl, macHighAt, macLowAt, type Packet } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import { DEFAULT_PORT_ID } from '../oid/oid.ts';
import { egressVlanVerdict } from '../policies/vlan.ts';
import { type ForwardingContext, NO_RANK } from './context.ts';
import type { SwitchCore } from './core.ts';
import { addDestinationTo, floodTo } from './destinations.ts';

/** Where one packet goes, without doing anything about it. */
export const Route = { DROP: 0, ONE: 1, FLOOD: 2 } as const;

/** The last answer of {@link routeNatively}; one instance, read at once. */
export const route = { kind: 0, reason: 0, dropPortId: DEFAULT_PORT_ID, portId: 0, nicIndex: 0 };

/** Decide about one packet; the answer is in {@link route}. */
export function routeNatively(core: SwitchCore, packet: Packet, context: ForwardingContext, learn: boolean): void {
  const bytes = packet.bytes;
  const at = packet.offset;
  route.kind = Route.DROP;
  route.dropPortId = context.sourcePortId;
  route.reason = context.verdict;
  if (context.verdict !== DropReason.NONE) return;
  const sourceHigh = macHighAt(bytes, at + 6);
  const sourceLow = macLowAt(bytes, at + 6);
  if ((sourceHigh & 0x0100) !== 0 || (sourceHigh | sourceLow) === 0) {
    route.reason = DropReason.INVALID_SOURCE_MAC;
    return;
  }
  const table = core.macTable;
  const vlan = context.vlan;
  const now = core.nowSeconds;
  if (learn && context.sourcePortId !== 0) {
    table.learn(vlan, sourceHigh, sourceLow, context.sourcePortId, context.sourceNicIndex, now);
  }
  const high = macHighAt(bytes, at);
  if ((high & 0x0100) !== 0) {
    if (high === 0x0180 && !core.options.forwardLinkLocal && isLinkLocalControl(packet)) {
      route.reason = DropReason.LINK_LOCAL_CONTROL;
      return;
    }
    route.kind = Route.FLOOD;
    return;
  }
  const low = macLowAt(bytes, at);
  if (high === sourceHigh && low === sourceLow) {
    route.reason = DropReason.DESTINATION_IS_SOURCE;
    return;
  }
  const found = table.lookup(vlan, high, low, now);
  const port = found === 0 ? null : core.ports[portIn(found)];
  if (found === 0 || !port?.reachable) {
    route.kind = Route.FLOOD;
    return;
  }
  if (port.portId === context.sourcePortId) {
    route.reason = DropReason.DESTINATION_IS_SOURCE;
    return;
  }
  const verdict = egressVlanVerdict(context, port.policy);
  if (verdict !== DropReason.NONE) {
    route.reason = verdict;
    route.dropPortId = port.portId;
    return;
  }
  route.kind = Route.ONE;
  route.portId = port.portId;
  const nicIndex = nicIn(found);
  route.nicIndex = port.external && port.nics[nicIndex]?.connected ? nicIndex : 0;
}

/** Add the destinations of one packet, or drop it. @returns whether it goes on */
export function forwardNatively(core: SwitchCore, packet: Packet, context: ForwardingContext): boolean {
  context.ingressBottom = NO_RANK;
  routeNatively(core, packet, context, true);
  if (route.kind === Route.ONE) {
    const port = core.ports[route.portId];
    if (port) addDestinationTo(context, port, route.nicIndex, port.policy.destinationFlags);
    return true;
  }
  if (route.kind === Route.FLOOD && floodTo(core, context) > 0) return true;
  const reason = route.kind === Route.FLOOD ? DropReason.NO_DESTINATION : route.reason;
  const port = core.ports[route.dropPortId] ?? core.portOf(context);
  core.dropPacket(packet, context, port, reason);
  return false;
}
