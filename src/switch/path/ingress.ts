/**
 * The ingress path: from the protocol edge down through capturing and filtering extensions, the built-in ingress policy and
 * forwarding, to the miniport edge (egress.ts).
 */
import { type Batch, EtherType, IpProtocol, type Packet } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import { ingressPolicyVerdict } from '../policies/builtin.ts';
import { callHandler } from './call-handler.ts';
import { ContextFlag, type ForwardingContext, NO_RANK } from './context.ts';
import type { SwitchCore } from './core.ts';
import { miniportEdge } from './egress.ts';
import { forwardNatively } from './native-forwarding.ts';

/** Hand packets to the ingress handler at a position of SwitchCore.ingressSlots, or to what lies below them all. */
export function ingressFrom(core: SwitchCore, position: number, batch: Batch, flags: number): void {
  if (position < core.ingressSlots.length) {
    callHandler(core, core.ingressSlots[position], batch, flags, false);
    return;
  }
  if (core.anyIngressPolicy) applyIngressPolicy(core, batch);
  if (core.anyExternal && core.options.hybridForwarding) markNative(batch);
  if (batch.count === 0) return;
  const forwarding = core.forwardingSlot;
  if (forwarding === null) {
    forwardAll(core, batch);
    miniportEdge(core, batch, 0);
  } else if (forwarding.hasIngress) {
    callHandler(core, forwarding, batch, flags, false);
  } else {
    miniportEdge(core, batch, 0);
  }
}

/** Access control, guards and limits of the source ports; refused packets are dropped, the rest stays in the batch. */
function applyIngressPolicy(core: SwitchCore, batch: Batch): void {
  const packets = batch.packets;
  const count = batch.count;
  const forwardingRank = core.forwardingSlot?.rank ?? NO_RANK;
  let kept = 0;
  for (let i = 0; i < count; i += 1) {
    const packet = packets[i];
    const context = packet.attachment as ForwardingContext;
    const port = context.sourcePort;
    if (port?.policy.hasIngressPolicy) {
      const reason = ingressPolicyVerdict(packet, port.policy, core.nowMs, true);
      if (reason !== DropReason.NONE) {
        context.ingressBottom = forwardingRank;
        core.dropPacket(packet, context, port, reason);
        if (core.dropWatchers.size !== 0) core.tellDrop(packet);
        continue;
      }
    }
    packets[kept] = packet;
    kept += 1;
  }
  batch.count = kept;
}

/** Mark NVGRE from the external port: the switch itself forwards it. */
function markNative(batch: Batch): void {
  for (let i = 0; i < batch.count; i += 1) {
    const packet = batch.packets[i];
    const context = packet.attachment as ForwardingContext;
    if (context.sourcePort?.external && isNvgre(packet, context)) context.flags |= ContextFlag.NATIVE_FORWARDING;
  }
}

/** Behind more tags nothing is NVGRE: deciders see as many. */
const NVGRE_TAGS = 2;

/** GRE version 0 with a key, carrying Ethernet (RFC 7637, section 3.2), directly in IPv4 or IPv6. */
export function isNvgre(packet: Packet, context: ForwardingContext): boolean {
  if (context.tagCount > NVGRE_TAGS) return false;
  const bytes = packet.bytes;
  const at = packet.offset + context.payloadOffset;
  const end = packet.offset + packet.length;
  let gre = 0;
  if (context.etherType === EtherType.IPV4) {
    if (at + 20 > end || bytes[at + 9] !== IpProtocol.GRE) return false;
    if ((((bytes[at + 6] << 8) | bytes[at + 7]) & 0x1fff) !== 0) return false;
    gre = at + (bytes[at] & 15) * 4;
  } else if (context.etherType === EtherType.IPV6) {
    if (at + 40 > end || bytes[at + 6] !== IpProtocol.GRE) return false;
    gre = at + 40;
  } else {
    return false;
  }
  if (gre + 8 > end) return false;
  const flags = (bytes[gre] << 8) | bytes[gre + 1];
  return flags === 0x2000 && bytes[gre + 2] === 0x65 && bytes[gre + 3] === 0x58;
}

/** Without a forwarding extension: learn, look up, and add destinations; what has none is dropped. */
function forwardAll(core: SwitchCore, batch: Batch): void {
  const packets = batch.packets;
  const count = batch.count;
  let kept = 0;
  for (let i = 0; i < count; i += 1) {
    const packet = packets[i];
    const context = packet.attachment as ForwardingContext;
    if (forwardNatively(core, packet, context)) {
      packets[kept] = packet;
      kept += 1;
    }
  }
  batch.count = kept;
}
