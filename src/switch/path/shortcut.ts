/**
 * Shortcuts: whether packets like one could go from their source to one destination without coming through the switch, or end, because
 * somebody outside (the kernel) does to them what would be done here. A forwarding extension asks once it has decided; what the
 * switch itself does on the way (policies, tags, mirrors, limits) is answered here, what other extensions do is asked of them.
 * Neighbours: passage.ts holds the terms; policies/builtin.ts answers for access control and guards; carried.ts counts what took a shortcut;
 * core.ts tells when answers are void.
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
} from '../../net/index.ts';
import type { Nic } from '../control/nic.ts';
import type { Port } from '../control/port.ts';
import { stackedDecider } from '../decider/along.ts';
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import type { Extension } from '../extension.ts';
import { egressPassage, ingressPassage } from '../policies/builtin.ts';
import { isLookedAt } from '../policies/port-policies.ts';
import { DEI, egressVlanVerdict, tagActionFor } from '../policies/vlan.ts';
import type { Slot } from '../stack/slot.ts';
import { messageOf } from '../thrown.ts';
import { ContextFlag, type ForwardingContext } from './context.ts';
import type { SwitchCore } from './core.ts';
import { guarded } from './guard.ts';
import { type DecidersOfCarried, HeaderField, type Passage, type Shortcut } from './passage.ts';

/** VLAN tags that a flow key holds. */
const TAGS_OF_KEYS = 2;

/** Used for one packet at a time. */
const headers = new HeaderOffsets();

/** See Shortcuts.consider. */
export function considerShortcut(core: SwitchCore, asking: Slot, packet: Packet, portId: number): Shortcut | null {
  const context = packet.attachment as ForwardingContext;
  const source = sourceOf(core, context);
  const target = core.ports[portId];
  if (source === null || !target || target === source || context.verdict !== DropReason.NONE) return null;
  if (onlyNic(target)?.connected !== true || egressVlanVerdict(context, target.policy) !== DropReason.NONE) return null;
  if (core.anyMonitor && (source.policy.monitorSource || target.policy.monitorSource)) return null;
  const way = wayOf(core, asking, packet, source, target);
  if (way === null) return null;
  let tagAction: number = TagAction.KEEP;
  if (way.drop === DropReason.NONE) {
    tagAction = fits(onlyNic(source), onlyNic(target)) ? fixedTagAction(context, target) : -1;
    if (tagAction === -1) return null;
  }
  return shortcut(packet, context, way, tagAction, mayBeNvgre(core, context, source));
}

/** See Shortcuts.considerDrop. */
export function considerDrop(core: SwitchCore, asking: Slot, packet: Packet, reason: number): Shortcut | null {
  const context = packet.attachment as ForwardingContext;
  const source = sourceOf(core, context);
  if (source === null) return null;
  const way = wayDown(core, asking, packet, source);
  if (way === null) return null;
  // What is NVGRE the switch looks for behind all others.
  if (way.drop !== DropReason.NONE) return shortcut(packet, context, way, TagAction.KEEP, false);
  if (reason === DropReason.NONE) return null;
  way.drop = reason;
  return shortcut(packet, context, way, TagAction.KEEP, mayBeNvgre(core, context, source));
}

/** The port that a packet came from, if what is done to it says something about what else comes from its NIC 0; or null. */
function sourceOf(core: SwitchCore, context: ForwardingContext): Port | null {
  const source = context.sourcePort;
  if (!core.active || core.paused || source === null || onlyNic(source) === null) return null;
  // What an extension made, changed or cloned says nothing about what comes from a NIC.
  const flags = context.flags & ~ContextFlag.REPORTED;
  if (context.origin !== 0 || flags !== ContextFlag.SOURCE_SET) return null;
  // Below is an 802.3 length, which may lie.
  return context.etherType < 0x0600 ? null : source;
}

/** What is looked at on a way, and how it ends. */
interface Way {
  readonly passages: Passage[];
  /** NONE: they arrive. */
  drop: DropReasonCode;
}

function shortcut(
  packet: Packet,
  context: ForwardingContext,
  { passages, drop }: Way,
  tagAction: number,
  nvgre: boolean,
): Shortcut | null {
  // Behind more tags than a flow key holds, frames that somebody tells apart have one key.
  if (passages.length !== 0 && context.tagCount > TAGS_OF_KEYS) return null;
  let fields = 0;
  for (const passage of passages) fields |= passage.fields;
  if (nvgre) fields |= HeaderField.PROTOCOL;
  if (fields !== 0 && !(isIp(context) && isPlain(packet))) return null;
  if (nvgre && headers.ipProtocol === IpProtocol.GRE) return null;
  return { drop, tagAction, fields, passages: passages.filter((passage) => passage.carried !== undefined) };
}

/** NVGRE from the external port is the switch's own affair; which GRE is that lies too deep. */
function mayBeNvgre(core: SwitchCore, context: ForwardingContext, source: Port): boolean {
  return source.external && core.options.hybridForwarding && isIp(context);
}

function isIp({ etherType }: ForwardingContext): boolean {
  return etherType === EtherType.IPV4 || etherType === EtherType.IPV6;
}

/** See Shortcuts.isOpen. */
export function isOpenPort(core: SwitchCore, asking: Slot, portId: number): boolean {
  const port = core.ports[portId];
  // While the stack changes its answers stand: whoever joins it is asked before it runs.
  if (!core.active || !port?.reachable || onlyNic(port) === null) return false;
  if (core.anyMonitor && port.policy.monitorSource) return false;
  return otherSlots(core, asking).every((slot) => isDecider(slot) || passesPort(core, slot, portId));
}

/** See Shortcuts.isPlain. */
export function isPlainSwitch(core: SwitchCore, asking: Slot): boolean {
  if (otherSlots(core, asking).some(isDecider)) return false;
  return !core.reachablePorts.some((port) => isLookedAt(port) && isOpenPort(core, asking, port.portId));
}

/** See Shortcuts.decidersOfCarried. */
export function decidersOfCarried(core: SwitchCore, asking: Slot): DecidersOfCarried {
  // Packets come to those that stand by themselves before the policies of ports, and to those that are decided along after them.
  const standing = otherSlots(core, asking)
    .filter(isDecider)
    .sort((a, b) => a.rank - b.rank)
    .map((slot) => stackedDecider(core, slot));
  return { standing, below: [core.policies, ...core.decidedAlong] };
}

/** Whether what an extension does to packets is what it decides. */
function isDecider(slot: Slot): boolean {
  return slot.extension.decider !== undefined;
}

/** The other extensions that are handed packets. */
function otherSlots(core: SwitchCore, asking: Slot): Slot[] {
  const { ingressSlots, egressSlots, completeSlots, returnSlots } = core;
  const slots = new Set([...ingressSlots, ...egressSlots, ...completeSlots, ...returnSlots]);
  slots.delete(asking);
  return [...slots];
}

/** Whether an extension lets everything of a port go past it. */
function passesPort(core: SwitchCore, slot: Slot, portId: number): boolean {
  return guarded(core, slot, 'passByPort', () => slot.extension.passByPort?.(portId)) === true;
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
  context.tagTci = tci ^ DEI;
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
  // What lies behind an authentication header is not in a flow key.
  if (headers.authenticationOffset !== -1) return false;
  return headers.fragment === Fragment.NONE && headers.fragmentOffset === -1;
}

/** What policies and extensions on the way to a port say; null when one of them must see the packets. */
function wayOf(core: SwitchCore, asking: Slot, packet: Packet, source: Port, target: Port): Way | null {
  const way: Way = { passages: [], drop: DropReason.NONE };
  if (source.policy.hasIngressPolicy) {
    const passage = ingressPassage(packet, source.policy, core.nowMs);
    if (passage === null || passage.drop !== undefined) return null;
    way.passages.push(passage);
  }
  const { aclOut, rateLimit, binding } = target.policy;
  if (aclOut !== null || rateLimit !== null || binding?.learns === true) {
    if (!extend(way, egressPassage(packet, target.policy))) return null;
  }
  // From the bottom: who stands above the one that excludes the port gets the packets without a destination.
  const slots = otherSlots(core, asking).sort((a, b) => b.rank - a.rank);
  for (const slot of slots) {
    if (way.drop === DropReason.NONE) {
      const passage = ask(core, slot, 'passBy', (extension) => extension.passBy?.(packet, target.portId));
      if (!extend(way, passage)) return null;
    } else {
      const passage = askIngress(core, slot, packet);
      if (passage === null || passage.drop !== undefined) return null;
      way.passages.push(passage);
    }
  }
  return way;
}

/** As {@link wayOf}, down as far as the asking extension or to where the packets are dropped. */
function wayDown(core: SwitchCore, asking: Slot, packet: Packet, source: Port): Way | null {
  const way: Way = { passages: [], drop: DropReason.NONE };
  const slots = new Set([...core.ingressSlots, ...core.completeSlots]);
  slots.delete(asking);
  for (const slot of [...slots].sort((a, b) => a.rank - b.rank)) {
    if (!extend(way, askIngress(core, slot, packet))) return null;
    if (way.drop !== DropReason.NONE) return way;
  }
  if (source.policy.hasIngressPolicy && !extend(way, ingressPassage(packet, source.policy, core.nowMs))) return null;
  return way;
}

/** Go on past somebody. @returns false when that must see the packets */
function extend(way: Way, passage: Passage | null): boolean {
  if (passage === null) return false;
  way.passages.push(passage);
  way.drop = passage.drop ?? DropReason.NONE;
  return true;
}

function askIngress(core: SwitchCore, slot: Slot, packet: Packet): Passage | null {
  return ask(core, slot, 'passIngress', (extension) => extension.passIngress?.(packet));
}

function ask(
  core: SwitchCore,
  slot: Slot,
  where: string,
  question: (extension: Extension) => Passage | null | undefined,
): Passage | null {
  const passage = guarded(core, slot, where, () => readPassage(core, question(slot.extension) ?? null)) ?? null;
  if (passage?.carried === undefined) return passage;
  return { ...passage, carried: (packets, bytes) => tellCarried(core, slot, passage, packets, bytes) };
}

/** What an extension answers. @throws TypeError, RuleError for what is no answer */
function readPassage(core: SwitchCore, passage: Passage | null): Passage | null {
  if (passage === null) return null;
  const { fields, drop, carried } = passage;
  if (!Number.isInteger(fields)) throw new TypeError(`the fields of a passage are bits, not ${messageOf(fields)}`);
  if (drop !== undefined && !core.reasons.has(drop)) throw new RuleError(16, `drop reason ${drop} is not registered`);
  if (carried !== undefined && typeof carried !== 'function')
    throw new TypeError('`carried` of a passage is no function');
  return passage;
}

function tellCarried(core: SwitchCore, slot: Slot, passage: Passage, packets: number, bytes: number): void {
  if (!slot.failed) guarded(core, slot, 'carried', () => passage.carried?.(packets, bytes));
}
