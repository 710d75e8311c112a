/**
 * The policies of ports as a decider: what the switch itself does to packets of a port on their way in and out (builtin.ts, vlan.ts, path/classify.ts), told of packets that are
 * decided about. Rules, constants and VLAN functions are the same; what a flow key does not tell has each packet judged by itself. It rests on the ports that it has asked
 * about, and learned addresses by entry. Neighbours: decide-headers.ts, decide-acl.ts, decide-guards.ts; ../decider/carried-flows.ts asks it.
 */
import {
  Anchor,
  type Decision,
  ObservedPorts,
  type OutputDecision,
  type PacketView,
  type PlacedDecider,
} from '../../decide/index.ts';
import { IpProtocol, TagAction } from '../../net/index.ts';
import type { Port } from '../control/port.ts';
import type { StackedDecider } from '../decider/placed.ts';
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import { ForwardingContext, PrivateRole } from '../path/context.ts';
import type { SwitchCore } from '../path/core.ts';
import { DecidedPacket } from './decide-acl.ts';
import { bindingReason, isLearnedFrom, isRouterMessage, isServerMessage } from './decide-guards.ts';
import { canJudge } from './decide-headers.ts';
import { VlanMode } from './port-policy.ts';
import { assignVlan, DEI, egressVlanVerdict, tagActionFor } from './vlan.ts';

/** No extension can have this name. */
const NAME = 'port policies';

/** Of the bits of a tag that decisions need not look at: all that they can be. */
const PRIORITIES = [0, 1, 2, 3, 4, 5, 6, 7];

/** Names of the switch's own reasons, by number. */
const NAMES = new Map<number, string>(Object.entries(DropReason).map(([name, code]) => [code, name]));

type PolicyDatapath = Pick<SwitchCore, 'ports' | 'reachablePorts' | 'privateVlans' | 'host' | 'options'>;

export class PortPolicies implements StackedDecider {
  /** Ports that something is connected to. */
  readonly ports = new ObservedPorts();
  readonly placed: PlacedDecider;
  readonly #core: PolicyDatapath;
  readonly #anchors = new Map<number, Anchor>();
  readonly #all = new Anchor('all ports');
  /** What rests on the policies of all ports. */
  readonly #any = new Anchor('policies of ports');
  /** Used for one packet at a time. */
  readonly #context = new ForwardingContext();

  constructor(core: PolicyDatapath) {
    this.#core = core;
    this.placed = {
      name: NAME,
      type: 'filtering',
      decider: {
        decide: (packet, decision) => this.#decide(packet, decision),
        decideOutput: (packet, portId, decision) => this.#decideOutput(packet, portId, decision),
      },
      concerns: (inPort, outPort) => this.#concerns(inPort, outPort),
      tagOf: (packet, portId, decision) => this.#tagOf(packet, portId, decision),
    };
    this.portsChanged();
  }

  reasonOf(reason: string): DropReasonCode {
    return DropReason[reason as keyof typeof DropReason] ?? DropReason.EXTENSION_OTHER;
  }

  /** Counters of rules are brought by SwitchCore.settle. */
  settledBy(): void {}

  /** Ports have come, gone, or got other names. */
  portsChanged(): void {
    const { reachablePorts } = this.#core;
    const reachable = new Set(reachablePorts.map(({ portId }) => portId));
    for (const { portId } of this.ports.all()) if (!reachable.has(portId)) this.ports.delete(portId);
    for (const { portId, name } of reachablePorts) this.ports.set(portId, name);
  }

  /** What a port does to packets has changed. @param portId 0 for all */
  changed(portId: number): void {
    this.#any.changed();
    if (portId === 0) this.#all.changed();
    else this.#anchors.get(portId)?.changed();
  }

  /** The forwarding domain of a packet that is decided about: a VLAN, 0 for none, or from 4096 on a virtual subnet. It rests on the policies of its port. */
  vlanOf(packet: PacketView): number {
    this.#enterDomain(packet, this.#port(packet.inPort));
    return this.#context.vlan;
  }

  /** Whether VLANs, private VLANs and isolation let a packet that is decided about leave by a port. It rests on the policies of all ports. */
  leavesBy(packet: PacketView, portId: number): boolean {
    this.#any.read();
    const target = this.#core.ports[portId];
    if (!target) return false;
    this.#enterDomain(packet, this.#core.ports[packet.inPort] ?? null);
    return egressVlanVerdict(this.#context, target.policy) === DropReason.NONE;
  }

  /** Which domain a packet is in depends on its outermost tag alone. @param source null for the port that has no number: what it sends is in the VLAN of its tag */
  #enterDomain(packet: PacketView, source: Port | null): void {
    const context = this.#context;
    const tag = packet.vlan?.id ?? -1;
    context.sourcePort = source;
    context.tagTci = tag;
    context.tagCount = tag === -1 ? 0 : 1;
    if (source !== null && source.portId !== 0) {
      assignVlan(context, source.policy, this.#core.privateVlans);
      return;
    }
    context.vlan = Math.max(tag, 0);
    context.secondaryVlan = 0;
    context.privateRole = PrivateRole.NONE;
  }

  /** A port, for a decision that rests on what it does to packets. */
  #port(portId: number): Port | null {
    let anchor = this.#anchors.get(portId);
    if (anchor === undefined) {
      anchor = new Anchor(`policies of port ${portId}`);
      this.#anchors.set(portId, anchor);
    }
    anchor.read();
    this.#all.read();
    return this.#core.ports[portId] ?? null;
  }

  /** Ports that nothing is said of carry packets as they are. */
  #concerns(inPort: number, outPort: number | null): boolean {
    const source = this.#port(inPort);
    if (source === null) return false;
    if (outPort === null) return judgesIn(source);
    const target = this.#port(outPort);
    return target !== null && (changesDomain(source) || judgesOut(target));
  }

  #decide(packet: PacketView, decision: Decision): void {
    const source = this.#port(packet.inPort);
    if (source === null) return;
    const { policy } = source;
    if (source.external && this.#core.options.hybridForwarding && packet.ip?.protocol === IpProtocol.GRE)
      decision.everyPacket('the switch itself forwards NVGRE');
    // As on their way down: what was found about the source is carried out by whoever forwards.
    const reason = this.#enter(packet, source);
    if (policy.hasIngressPolicy && !this.#passesIn(packet, source, decision)) return;
    if (reason !== DropReason.NONE) decision.drop(NAMES.get(reason) ?? 'EXTENSION_OTHER');
    else this.#judgeSourceMac(packet, source, decision);
  }

  /** @returns false when it is dropped, or judged by itself */
  #passesIn(packet: PacketView, source: Port, decision: Decision): boolean {
    const { policy } = source;
    // Asked first: when it is not known, all is decided anew once it is.
    if (policy.tracks) noteConnection(packet, decision);
    if (!canJudge(packet, policy.looksInside, decision)) return false;
    if (policy.dhcpGuard && isServerMessage(packet)) decision.drop('DHCP_GUARD');
    else if (policy.routerGuard && isRouterMessage(packet)) decision.drop('ROUTER_GUARD');
    else if (policy.aclIn?.denies(new DecidedPacket(packet), (counter) => decision.count(counter)))
      decision.drop('ACL_DENIED');
    else {
      const unbound =
        policy.binding === null
          ? null
          : bindingReason(packet, policy.binding, () => this.#context.vlan, this.#core.host.nowMs(), decision);
      if (unbound !== null) decision.drop(unbound);
      else if (policy.addressLimit !== null) decision.everyPacket('the addresses of its port are counted');
    }
    return !decision.isDropped;
  }

  /** The spoof guard. */
  #judgeSourceMac(packet: PacketView, { policy, nics }: Port, decision: Decision): void {
    const [nic] = nics;
    if (!policy.checkSourceMac || !nic) return;
    const { source } = packet.ethernet;
    if (policy.macs.addresses(nic).some((mac) => source.is(mac))) return;
    if (policy.macs.awaitsFirst) decision.everyPacket('the address of its port is learned from the first packet');
    else if (policy.allowTeaming) decision.everyPacket('ports that team use addresses of each other');
    else decision.drop('MAC_SPOOFED');
  }

  /** Put a packet, as it is now, into its forwarding domain: {@link #context} says which. @returns a DropReason */
  #enter(packet: PacketView, source: Port): number {
    const { privateVlans } = this.#core;
    const context = this.#context;
    const { vlan } = packet;
    context.sourcePort = source;
    context.tagTci = vlan === null ? -1 : vlan.id;
    context.tagCount = vlan === null ? 0 : 2;
    const stacked = assignVlan(context, source.policy, privateVlans);
    if (vlan === null) return stacked;
    context.tagCount = 1;
    const single = assignVlan(context, source.policy, privateVlans);
    // Whether there is a second tag is asked only where that matters.
    if (single === stacked || packet.innerVlan === null) return single;
    context.tagCount = 2;
    return stacked;
  }

  #decideOutput(packet: PacketView, portId: number, decision: OutputDecision): void {
    const source = this.#port(packet.inPort);
    const target = this.#port(portId);
    if (source === null || target === null) return;
    const { policy } = target;
    this.#enter(packet, source);
    const reason = egressVlanVerdict(this.#context, policy);
    if (reason !== DropReason.NONE) {
      decision.drop(NAMES.get(reason) ?? 'EXTENSION_OTHER');
      return;
    }
    const { aclOut, binding, rateLimit } = policy;
    if (policy.tracks) noteConnection(packet, decision);
    if (aclOut !== null) {
      if (!canJudge(packet, aclOut.looksInside, decision)) return;
      if (aclOut.denies(new DecidedPacket(packet), (counter) => decision.count(counter))) {
        decision.drop('ACL_DENIED');
        return;
      }
    }
    if (binding?.learns === true && isLearnedFrom(packet, binding))
      decision.everyPacket('addresses are learned from it');
    if (rateLimit !== null) decision.everyPacket('the bandwidth of a port is limited');
  }

  #tagOf(packet: PacketView, portId: number, decision: OutputDecision): number {
    const source = this.#port(packet.inPort);
    const target = this.#port(portId);
    if (source === null || target === null) return TagAction.KEEP;
    this.#enter(packet, source);
    const { policy } = target;
    const { vlan } = packet;
    if (vlan === null) {
      this.#context.priority = 0;
      return tagActionFor(this.#context, policy, policy.destinationFlags);
    }
    const { id } = vlan;
    const actions = (priorities: readonly number[], counts: readonly number[]): Set<number> => {
      const found = new Set<number>();
      for (const priority of priorities)
        for (const count of counts) {
          this.#context.tagCount = count;
          this.#context.priority = source.policy.clearPriority ? 0 : priority;
          for (const dei of [0, DEI]) {
            this.#context.tagTci = (priority << 13) | dei | id;
            found.add(tagActionFor(this.#context, policy, policy.destinationFlags));
          }
        }
      return found;
    };
    // Most often it is the same whatever its priority, and whatever lies behind the tag: then nobody need look.
    let possible = actions(PRIORITIES, [1, 2]);
    const count = () => [packet.innerVlan === null ? 1 : 2];
    if (possible.size > 1 && actions(PRIORITIES, [1]).size === 1 && actions(PRIORITIES, [2]).size === 1)
      possible = actions(PRIORITIES, count());
    if (possible.size > 1) possible = actions([vlan.priority], [1, 2]);
    if (possible.size > 1) possible = actions([vlan.priority], count());
    const [action] = possible;
    const replaces = (action & TagAction.STRIP) !== 0 && (action & TagAction.PUSH) !== 0;
    if (possible.size === 1 && !replaces) return action;
    decision.everyPacket('its tag is replaced, and a flow key does not hold all of it');
    return TagAction.KEEP;
  }
}

/** Look at the connection of a packet. All packets of a port are tracked as soon as one rule asks: an answer is known for one only when its question was seen. */
function noteConnection(packet: PacketView, decision: Pick<OutputDecision, 'note'>): void {
  const state = packet.connection?.state ?? null;
  if (state !== null) decision.note(() => `its connection is ${state}`);
}

/** Whether policies of a port look at packets that come in or go out by it. */
export function isLookedAt(port: Port): boolean {
  return judgesIn(port) || judgesOut(port) || changesDomain(port);
}

/** Whether a packet that comes in by a port may end there. */
function judgesIn({ policy, external }: Port): boolean {
  return policy.vlanMode !== VlanMode.TRANSPARENT || policy.checkSourceMac || policy.hasIngressPolicy || external;
}

/** Whether where it comes from may count where a packet goes out, or its tag change. */
function changesDomain({ policy }: Port): boolean {
  return policy.vlanMode !== VlanMode.TRANSPARENT || policy.clearPriority;
}

/** Whether a packet that is to leave by a port may end there, or its tag change. */
function judgesOut({ policy }: Port): boolean {
  return policy.vlanMode !== VlanMode.TRANSPARENT || policy.hasEgressPolicy;
}
