/**
 * Shortcuts: whether packets like one could go from their source to one destination without coming through the switch, because
 * somebody outside (the kernel) does to them what would be done here. A forwarding extension asks once it has decided; what the
 * switch itself does on the way (policies, tags, mirrors, limits) is answered here, what other extensions do is asked of them.
 * Neighbours: passage.ts holds the terms; policies/builtin.ts answers for access control and guards; datapath.ts tells when answers are void.
 */
import {
  EtherType,
  Fragment,
  Gso,
  HeaderOffsets,
  IpProtocol,
  Malformed,
  type Packet,
  TagAction,
} from '../net/index.ts';
import { ContextFlag, type ForwardingContext } from './context.ts';
import type { Datapath } from './datapath.ts';
import { DropReason } from './drop-reason.ts';
import { RuleError } from './errors.ts';
import type { Nic } from './nic.ts';
import { HeaderField, type Passage, type Shortcut } from './passage.ts';
import { egressPassage, ingressPassage } from './policies/builtin.ts';
import { VlanMode } from './policies/port-policy.ts';
import { egressVlanVerdict, tagActionFor } from './policies/vlan.ts';
import type { Port } from './port.ts';
import type { Slot } from './slot.ts';

/** Used for one packet at a time. */
const headers = new HeaderOffsets();

/** See Shortcuts.consider. */
export function considerShortcut(datapath: Datapath, asking: Slot, packet: Packet, portId: number): Shortcut | null {
  const context = packet.attachment as ForwardingContext;
  const source = context.sourcePort;
  const target = datapath.ports[portId];
  if (!datapath.active || datapath.paused || source === null || !target || target === source) return null;
  // What an extension made, changed or cloned says nothing about what comes from a NIC.
  if (context.origin !== 0 || context.flags !== ContextFlag.SOURCE_SET || context.verdict !== DropReason.NONE)
    return null;
  if (!fits(onlyNic(source), onlyNic(target)) || egressVlanVerdict(context, target.policy) !== DropReason.NONE)
    return null;
  if (datapath.anyMonitor && (source.policy.monitorSource || target.policy.monitorSource)) return null;
  // Below is an 802.3 length, which may lie.
  if (context.etherType < 0x0600) return null;
  const tagAction = fixedTagAction(context, target);
  if (tagAction === -1) return null;
  const passages = passagesOf(datapath, asking, packet, source, target);
  if (passages === null) return null;
  let fields = 0;
  for (const passage of passages) fields |= passage.fields;
  const isIp = context.etherType === EtherType.IPV4 || context.etherType === EtherType.IPV6;
  // NVGRE from the external port is the switch's own affair; which GRE is that lies too deep.
  const mayBeNvgre = source.external && datapath.options.hybridForwarding && isIp;
  if (mayBeNvgre) fields |= HeaderField.PROTOCOL;
  if (fields !== 0 && !(isIp && isPlain(packet))) return null;
  if (mayBeNvgre && headers.ipProtocol === IpProtocol.GRE) return null;
  return { tagAction, fields, passages: passages.filter((passage) => passage.carried !== undefined) };
}

/** See Shortcuts.isOpen. */
export function isOpenPort(datapath: Datapath, asking: Slot, portId: number): boolean {
  const port = datapath.ports[portId];
  // While the stack changes its answers stand: whoever joins it is asked before it runs.
  if (!datapath.active || !port?.reachable || onlyNic(port) === null) return false;
  const { policy } = port;
  const isPlainPort =
    policy.vlanMode === VlanMode.TRANSPARENT && !policy.checkSourceMac && !policy.clearPriority && !port.external;
  if (!isPlainPort || policy.hasIngressPolicy || policy.hasEgressPolicy || policy.aclOut !== null) return false;
  if (policy.rateLimit !== null || (datapath.anyMonitor && policy.monitorSource)) return false;
  return !otherSlots(datapath, asking).some((slot) => !passesPort(datapath, slot, portId));
}

/** The other extensions that are handed packets. */
function otherSlots(datapath: Datapath, asking: Slot): Slot[] {
  const { ingressSlots, egressSlots, completeSlots, returnSlots } = datapath;
  const slots = new Set([...ingressSlots, ...egressSlots, ...completeSlots, ...returnSlots]);
  slots.delete(asking);
  return [...slots];
}

/** Whether an extension lets everything of a port go past it. */
function passesPort(datapath: Datapath, slot: Slot, portId: number): boolean {
  try {
    return slot.extension.passByPort?.(portId) ?? false;
  } catch (error) {
    datapath.onFailure(slot, error, 'passByPort');
    return false;
  }
}

/** The NIC of a port that has no other than the one with index 0. */
function onlyNic(port: Port): Nic | null {
  for (let index = 1; index < port.nics.length; index += 1) if (port.nics[index]) return null;
  return port.nics[0] ?? null;
}

/** Whether every frame that the source's NIC can take in is within the MTU of the target's. */
function fits(source: Nic | null, target: Nic | null): boolean {
  if (source === null || target === null || !target.connected) return false;
  return target.mtuBytes === 0 || (source.mtuBytes !== 0 && source.mtuBytes <= target.mtuBytes);
}

/** The tag action, or -1 when it depends on the DEI bit, which flow keys cannot hold, or writes that bit into another tag. */
function fixedTagAction(context: ForwardingContext, target: Port): number {
  const { policy } = target;
  const action = tagActionFor(context, policy, policy.destinationFlags);
  const tci = context.tagTci;
  if (tci === -1) return action;
  context.tagTci = tci ^ 0x1000;
  const other = tagActionFor(context, policy, policy.destinationFlags);
  context.tagTci = tci;
  return other !== action || (action & TagAction.PUSH) !== 0 ? -1 : action;
}

/** Whether the headers are of a kind of which every field that counts can be told from a flow key. */
function isPlain(packet: Packet): boolean {
  if (headers.parse(packet) !== Malformed.NOTHING || packet.gsoType === Gso.UDP) return false;
  // A router alert or a short ICMP message is for those who look closely; neither is worth a shortcut.
  const { ipProtocol } = headers;
  if (ipProtocol === IpProtocol.ICMPV4 || ipProtocol === IpProtocol.ICMPV6) return false;
  return headers.fragment === Fragment.NONE && headers.fragmentOffset === -1;
}

/** What policies and extensions on the way say; null when one of them must see the packets. */
function passagesOf(
  datapath: Datapath,
  asking: Slot,
  packet: Packet,
  source: Port,
  target: Port,
): readonly Passage[] | null {
  const passages: Passage[] = [];
  if (source.policy.hasIngressPolicy) {
    const passage = ingressPassage(packet, source.policy);
    if (passage === null) return null;
    passages.push(passage);
  }
  if (target.policy.aclOut !== null || target.policy.rateLimit !== null) {
    const passage = egressPassage(packet, target.policy);
    if (passage === null) return null;
    passages.push(passage);
  }
  for (const slot of otherSlots(datapath, asking)) {
    const passage = askSlot(datapath, slot, packet, target.portId);
    if (passage === null) return null;
    passages.push(passage);
  }
  return passages;
}

function askSlot(datapath: Datapath, slot: Slot, packet: Packet, portId: number): Passage | null {
  let passage: Passage | null = null;
  try {
    passage = slot.extension.passBy?.(packet, portId) ?? null;
  } catch (error) {
    datapath.onFailure(slot, error, 'passBy');
  }
  if (passage?.carried === undefined) return passage;
  const told = passage;
  return { fields: told.fields, carried: (packets, bytes) => tellCarried(datapath, slot, told, packets, bytes) };
}

function tellCarried(datapath: Datapath, slot: Slot, passage: Passage, packets: number, bytes: number): void {
  if (slot.failed) return;
  try {
    passage.carried?.(packets, bytes);
  } catch (error) {
    datapath.onFailure(slot, error, 'carried');
  }
}

/** See Shortcuts.carried. */
export function countCarried(
  datapath: Datapath,
  shortcut: Shortcut,
  sourcePortId: number,
  portId: number,
  packets: number,
  bytes: number,
): void {
  const source = datapath.ports[sourcePortId];
  const target = datapath.ports[portId];
  if (source) {
    source.receivedPackets += packets;
    source.receivedBytes += bytes;
  }
  if (target) {
    target.transmittedPackets += packets;
    target.transmittedBytes += bytes;
  }
  datapath.received += packets;
  datapath.delivered += packets;
  datapath.copiesDelivered += packets;
  for (const passage of shortcut.passages) passage.carried?.(packets, bytes);
}

/** See Shortcuts.carriedCopies. */
export function countCarriedCopies(datapath: Datapath, portId: number, packets: number, bytes: number): void {
  const target = datapath.ports[portId];
  if (!target) return;
  target.transmittedPackets += packets;
  target.transmittedBytes += bytes;
  datapath.copiesDelivered += packets;
}

/** See Shortcuts.carriedDrops. @throws RuleError 16 */
export function countCarriedDrops(
  datapath: Datapath,
  sourcePortId: number,
  reason: number,
  packets: number,
  bytes: number,
): void {
  if (!datapath.reasons.has(reason)) throw new RuleError(16, `drop reason ${reason} is not registered`);
  const source = datapath.ports[sourcePortId];
  if (!source) return;
  source.receivedPackets += packets;
  source.receivedBytes += bytes;
  source.drops[reason] += packets;
  datapath.received += packets;
  datapath.dropped += packets;
}
