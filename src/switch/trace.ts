/**
 * Trace: what would happen to a frame, step by step, with nothing forwarded, learned or counted. It asks the same judges as the
 * core does, and extensions for their explanation.
 */
import { connectionStateOf } from '../decide/index.ts';
import { Packet, type PortId, Region } from '../net/index.ts';
import type { TraceStep } from './api.ts';
import type { Port } from './control/port.ts';
import { DropReason } from './drop-reason.ts';
import type { ExplainedCopy, ExplainedDestination, Explanation } from './extension.ts';
import { DEFAULT_PORT_ID } from './oid/oid.ts';
import { judgeSource, readFrame } from './path/classify.ts';
import { ContextFlag, DestinationFlag, ForwardingContext } from './path/context.ts';
import type { SwitchCore } from './path/core.ts';
import { destinationNic, isTooLong } from './path/egress.ts';
import { watched } from './path/guard.ts';
import { isNvgre } from './path/ingress.ts';
import { Route, route, routeNatively } from './path/native-forwarding.ts';
import type { PacketConnections } from './path/tracking.ts';
import { plainJson } from './plain-json.ts';
import { egressPolicyVerdict, ingressPolicyVerdict } from './policies/builtin.ts';
import { VlanMode } from './policies/port-policy.ts';
import { describeTagAction, egressVlanVerdict, tagActionFor } from './policies/vlan.ts';
import type { Slot } from './stack/slot.ts';
import { messageOf } from './thrown.ts';

/** One trace under way. */
class Tracer {
  readonly steps: TraceStep[];
  /** Destinations that extensions refuse, and why. */
  readonly #excluded = new Map<number, number>();
  /** Changed copies that the forwarding extension makes. */
  #copies: readonly ExplainedCopy[] = [];
  readonly #core: SwitchCore;
  readonly #packet: Packet;
  readonly #context = new ForwardingContext();
  readonly #slots: readonly Slot[];
  /** Copies of connections; null while nothing was tracked. */
  #connections: PacketConnections | null = null;

  constructor(core: SwitchCore, slots: readonly Slot[], packet: Packet, steps: TraceStep[] = []) {
    this.steps = steps;
    this.#core = core;
    this.#slots = slots;
    this.#packet = packet;
  }

  run(portId: number, nicIndex: number): void {
    // Policies and extensions find the context on the packet; what hung there before is put back.
    const before = this.#packet.attachment;
    this.#packet.attachment = this.#context;
    try {
      if (this.#admit(portId, nicIndex) && this.#ingress() && this.#forward()) this.#egress();
    } finally {
      this.#packet.attachment = before;
    }
    for (const copy of this.#copies)
      new Tracer(this.#core, this.#slots, packetOf(copy.frame), this.steps).#originate(copy, this.#context);
  }

  /** A changed copy goes down from where it was made: it is classified as what it has become, and keeps its source. */
  #originate(copy: ExplainedCopy, from: ForwardingContext): void {
    const context = this.#context;
    this.#packet.attachment = context;
    const reason = readFrame(context, this.#packet);
    if (reason !== DropReason.NONE) {
      this.#drop('forwarding', reason);
      return;
    }
    this.#enter(from.sourcePort, from.sourceNicIndex);
    for (const { portId, nicIndex, flags } of copy.destinations) this.#add(portId, nicIndex, flags);
    this.#addMirrors();
    if (context.numDestinations !== 0) this.#egress();
  }

  /** Where the packet came in, and how that port judges it. */
  #enter(port: Port | null, nicIndex: number): void {
    const context = this.#context;
    context.packet = this.#packet;
    context.sourcePort = port;
    context.sourcePortId = port?.portId ?? DEFAULT_PORT_ID;
    context.sourceNicIndex = nicIndex;
    context.flags = ContextFlag.SOURCE_SET;
    const nic = port?.nics[nicIndex];
    if (port && nic) judgeSource(context, this.#packet, port.policy, nic, this.#core.privateVlans);
    if ((this.#core.tracksAll || port?.policy.tracks === true) && context.verdict === DropReason.NONE)
      this.#track('ingress');
  }

  /** Find out what is known of the packet's connection. */
  #track(stage: string): void {
    const context = this.#context;
    this.#connections ??= this.#core.connections.preview();
    this.#connections.track(this.#packet, context);
    if (context.connection === 0) return;
    const state = connectionStateOf(context.connection);
    this.#say(stage, state === null ? 'it belongs to no connection' : `its connection is ${state}`);
  }

  #say(stage: string, text: string): void {
    this.steps.push({ stage, text });
  }

  /** Say something about a port, whose name stands between two pieces of text. */
  #sayOfPort(stage: string, before: string, port: Port, after: string): void {
    const text = `${before}port ${port.name}${after}`;
    this.steps.push({ stage, text, aroundPort: [before, after], portId: port.portId });
  }

  #drop(stage: string, reason: number, portId?: PortId): false {
    const info = this.#core.reasons.info(reason);
    this.steps.push({ stage, text: info.text, drop: info.name, ...(portId === undefined ? {} : { portId }) });
    return false;
  }

  #admit(portId: number, nicIndex: number): boolean {
    const core = this.#core;
    const context = this.#context;
    const port = core.ports[portId];
    const nic = port?.nics[nicIndex];
    if (!port || !nic) return this.#drop('ingress', DropReason.UNKNOWN_PORT);
    this.#say('ingress', `in through port ${port.name} (${portId}), NIC ${nicIndex}, ${this.#packet.length} bytes`);
    if (!nic.connected && nic.state !== 'created')
      return this.#drop('ingress', DropReason.NIC_NOT_CONNECTED, port.portId);
    if (core.paused || !core.active) return this.#drop('ingress', DropReason.STACK_PAUSED, port.portId);
    const reason = readFrame(context, this.#packet);
    if (reason !== DropReason.NONE) return this.#drop('ingress', reason, port.portId);
    this.#enter(port, nicIndex);
    const tag = context.tagTci === -1 ? 'untagged' : `tagged with VLAN ${context.tagTci & 0xfff}`;
    const secondary = context.secondaryVlan === 0 ? '' : `, secondary VLAN ${context.secondaryVlan}`;
    this.#say('ingress', `${tag}; enters forwarding domain ${context.vlan}${secondary}, priority ${context.priority}`);
    return true;
  }

  /** Capturing and filtering extensions, then the built-in ingress policy. */
  #ingress(): boolean {
    const context = this.#context;
    for (const slot of this.#slots) {
      if (slot.forwarding || !slot.hasIngress || this.#isDecidedAlong(slot)) continue;
      const explanation = this.#explain(slot);
      if (explanation?.drop !== undefined) return this.#drop(slot.name, explanation.drop);
    }
    const port = context.sourcePort;
    if (port?.policy.hasIngressPolicy) {
      const reason = ingressPolicyVerdict(this.#packet, port.policy, this.#core.nowMs, false);
      if (reason !== DropReason.NONE) return this.#drop('policy', reason, port.portId);
      this.#say('policy', 'access control and guards of the source port let it pass');
    }
    if (port?.external && this.#core.options.hybridForwarding && isNvgre(this.#packet, context)) {
      context.flags |= ContextFlag.NATIVE_FORWARDING;
      this.#say('policy', 'NVGRE from the external port: the switch itself forwards it');
    }
    return true;
  }

  /** Whether the forwarding extension tells what it decides. */
  #isDecidedAlong(slot: Slot): boolean {
    return slot.stacked !== null && this.#core.decidedAlong.includes(slot.stacked);
  }

  #explain(slot: Slot): Explanation | null {
    if (slot.extension.explain === undefined) {
      this.#say(slot.name, 'sees the packet and does not explain what it does');
      return null;
    }
    try {
      const explanation = watched(this.#core, slot.entry, () =>
        readExplanation(slot.extension.explain?.(this.#packet, this.#context)),
      );
      for (const line of explanation.lines) this.#say(slot.name, line);
      return explanation;
    } catch (error) {
      this.#say(slot.name, `could not explain itself: ${messageOf(error)}`);
      return null;
    }
  }

  #forward(): boolean {
    const slot = this.#slots.find((candidate) => candidate.forwarding);
    if (slot === undefined || (this.#context.flags & ContextFlag.NATIVE_FORWARDING) !== 0) {
      if (!this.#forwardNatively()) return false;
    } else {
      const explanation = this.#explain(slot);
      if (explanation?.drop !== undefined) return this.#drop(slot.name, explanation.drop);
      for (const destination of explanation?.destinations ?? []) {
        this.#add(destination.portId, destination.nicIndex, destination.flags);
      }
      for (const { portId, reason } of explanation?.excluded ?? []) this.#excluded.set(portId, reason);
      this.#copies = explanation?.copies ?? [];
      const handedTo = explanation?.handedTo;
      if (handedTo !== undefined) this.steps.push({ stage: 'delivery', text: `goes to ${handedTo}`, handedTo });
      const isConsumed = handedTo !== undefined || this.#copies.length > 0;
      if (isConsumed && this.#context.numDestinations === 0) return false;
    }
    this.#addMirrors();
    if (this.#context.numDestinations === 0) return this.#drop('forwarding', DropReason.NO_DESTINATION);
    return true;
  }

  #forwardNatively(): boolean {
    const core = this.#core;
    const context = this.#context;
    routeNatively(core, this.#packet, context, false);
    if (route.kind === Route.DROP) return this.#drop('forwarding', route.reason, route.dropPortId);
    if (route.kind === Route.ONE) {
      this.#say('forwarding', `the destination MAC address is known behind port ${this.#name(route.portId)}`);
      this.#add(route.portId, route.nicIndex, core.ports[route.portId]?.policy.destinationFlags ?? 0);
      return true;
    }
    this.#say('forwarding', 'group address or unknown destination: flooded within the forwarding domain');
    for (const port of core.reachablePorts) {
      if (port === context.sourcePort) continue;
      const reason = egressVlanVerdict(context, port.policy);
      if (reason === DropReason.NONE) this.#add(port.portId, 0, port.policy.destinationFlags);
      else this.#sayOfPort('forwarding', 'not to ', port, `: ${core.reasons.info(reason).text}`);
    }
    return true;
  }

  #name(portId: number): string {
    return this.#core.ports[portId]?.name ?? String(portId);
  }

  #add(portId: number, nicIndex: number, flags: number): void {
    const context = this.#context;
    if (!this.#core.ports[portId]) return;
    if (context.numAvailable === 0) context.grow(1);
    const index = context.numDestinations;
    context.destinationPorts[index] = portId;
    context.destinationNics[index] = nicIndex;
    context.destinationFlags[index] = flags;
    context.numDestinations += 1;
    context.numAvailable -= 1;
  }

  #addMirrors(): void {
    const core = this.#core;
    const context = this.#context;
    if (!core.anyMonitor) return;
    const to = [...context.destinationPorts.subarray(0, context.numDestinations)];
    const monitored =
      context.sourcePort?.policy.monitorSource === true ||
      to.some((portId) => core.ports[portId]?.policy.monitorSource === true);
    if (!monitored) return;
    for (const port of core.monitorPorts) {
      if (port === context.sourcePort || to.includes(port.portId)) continue;
      this.#sayOfPort('forwarding', 'mirrored to monitor ', port, '');
      this.#add(port.portId, 0, DestinationFlag.MIRROR);
    }
  }

  /** Built-in egress policy, filters, delivery, for each destination. */
  #egress(): void {
    const context = this.#context;
    context.flags |= ContextFlag.EGRESS;
    const excluded = this.#excluded;
    for (const slot of [...this.#slots].reverse()) {
      if (slot.forwarding || !slot.hasEgress || this.#isDecidedAlong(slot)) continue;
      if (slot.extension.explain === undefined) continue;
      for (const exclusion of this.#explain(slot)?.excluded ?? []) excluded.set(exclusion.portId, exclusion.reason);
    }
    for (let i = 0; i < context.numDestinations; i += 1) {
      const port = this.#core.ports[context.destinationPorts[i]];
      if (port) this.#deliver(port, i, excluded.get(port.portId) ?? DropReason.NONE);
    }
  }

  #deliver(port: Port, index: number, excluded: number): void {
    const context = this.#context;
    const flags = context.destinationFlags[index];
    const nic = destinationNic(port, context.destinationNics[index], this.#packet);
    if (port.policy.tracks && context.connection === 0) this.#track('egress');
    let reason = excluded;
    if (reason === DropReason.NONE && port.policy.hasEgressPolicy && (flags & DestinationFlag.MIRROR) === 0) {
      if (port.policy.vlanMode === VlanMode.TRUNK) reason = egressVlanVerdict(context, port.policy);
      if (reason === DropReason.NONE) {
        reason = egressPolicyVerdict(this.#packet, port.policy, this.#core.nowMs, false);
      }
    }
    if (reason === DropReason.NONE && nic === null) reason = DropReason.NIC_NOT_CONNECTED;
    if (reason === DropReason.NONE && nic?.isDown) reason = DropReason.NIC_DOWN;
    if (reason === DropReason.NONE && nic !== null && isTooLong(this.#packet, nic)) reason = DropReason.EXCEEDS_MTU;
    if (reason !== DropReason.NONE) {
      this.#drop('egress', reason, port.portId);
      return;
    }
    const tag = describeTagAction(tagActionFor(context, port.policy, flags));
    const nicIndex = nic?.nicIndex ?? 0;
    const [before, after] = ['out through ', `, NIC ${nicIndex}; VLAN tag: ${tag}`];
    const text = `${before}port ${port.name} (${port.portId})${after}`;
    this.steps.push({ stage: 'delivery', text, aroundPort: [before, after], portId: port.portId, nicIndex, tag });
  }
}

/** An explanation's own copy, of plain texts and numbers. @throws TypeError for what is none */
function readExplanation(given: Explanation | undefined): Explanation {
  const plain = plainJson(given) as unknown as Explanation;
  const { lines, drop, destinations = [], copies = [], handedTo, excluded = [] } = plain;
  return {
    lines: [...lines].map(String),
    ...(drop === undefined ? {} : { drop: Number(drop) }),
    destinations: readDestinations(destinations),
    copies: [...copies].map((copy) => ({
      frame: String(copy.frame),
      destinations: readDestinations(copy.destinations),
    })),
    ...(handedTo === undefined ? {} : { handedTo: String(handedTo) }),
    excluded: [...excluded].map(({ portId, reason }) => ({ portId: Number(portId), reason: Number(reason) })),
  };
}

function readDestinations(given: readonly ExplainedDestination[]): ExplainedDestination[] {
  return [...given].map(({ portId, nicIndex, flags }) => ({
    portId: Number(portId),
    nicIndex: Number(nicIndex),
    flags: Number(flags),
  }));
}

/** A packet of its own over bytes in hexadecimal. */
function packetOf(frame: string): Packet {
  const bytes = Uint8Array.from(frame.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
  const packet = new Packet({ recycle: () => {} }, new Region(bytes.buffer), 0);
  packet.length = bytes.length;
  packet.limit = bytes.length;
  return packet;
}

/** See VirtualSwitch.trace. @param slots flowing slots from the top */
export function tracePacket(
  core: SwitchCore,
  slots: readonly Slot[],
  packet: Packet,
  portId: number,
  nicIndex: number,
): readonly TraceStep[] {
  core.readClock();
  const tracer = new Tracer(core, slots, packet);
  tracer.run(portId, nicIndex);
  return tracer.steps;
}
