/** For tests only: random deciders, which ask everything there is to ask of packets and state and say everything there is to say. */
import type { FlowCounter } from '../counter.ts';
import type { Decider, OutputDecision } from '../decider.ts';
import type { Decision } from '../decision.ts';
import type { Field } from '../field.ts';
import type { IpView, PacketView, PortsView } from '../packet-view.ts';
import { DeciderState } from '../state/state.ts';

/** A source of random numbers. */
export interface Random {
  /** From 0 up to, but without, `limit`. */
  below(limit: number): number;
  pick<T>(of: readonly T[]): T;
}

const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02', 'ff:ff:ff:ff:ff:ff', '02:00:00:01:00:03'];
const PREFIXES4 = [
  '10.0.0.0/8',
  '10.0.0.0/24',
  '10.0.0.1',
  '10.0.0.2/31',
  '192.168.0.0/16',
  '0.0.0.0/0',
  '10.128.0.0/9',
  '172.16.4.4',
];
const PREFIXES6 = ['2001:db8::/32', '2001:db8::1', 'fe80::/10', '2001:db8::2/127', '::/0'];

/** State that random deciders read and tests change. */
export class RandomState {
  readonly #state = new DeciderState();
  readonly switches = this.#state.value('switch', 0);
  readonly byPort = this.#state.map<number>('byPort');
  readonly marked = this.#state.set('marked');
  readonly prefixes = this.#state.prefixes<number>('prefixes');
  readonly backends = this.#state.weighted<number>('backends');

  /** Change something, or nothing. */
  change(random: Random): void {
    switch (random.below(6)) {
      case 0:
        this.switches.set(random.below(3));
        break;
      case 1:
        if (random.below(2) === 0) this.byPort.set(1 + random.below(4), random.below(3));
        else this.byPort.delete(1 + random.below(4));
        break;
      case 2:
        if (random.below(2) === 0) this.marked.add(random.below(8));
        else this.marked.delete(random.below(8));
        break;
      case 3:
        if (random.below(3) === 0) this.backends.delete(random.below(4));
        else this.backends.set(random.below(4), 1 + random.below(3), random.below(3));
        break;
      default: {
        const prefix = random.pick([...PREFIXES4, ...PREFIXES6]);
        if (random.below(2) === 0) this.prefixes.set(prefix, random.below(3));
        else this.prefixes.delete(prefix);
      }
    }
  }
}

type Question = (packet: PacketView, state: RandomState) => number;
type Act = (packet: PacketView, decision: Decision) => void;

interface Node {
  readonly ask: Question | null;
  readonly branches: readonly Node[];
  readonly acts: readonly Act[];
}

const yes = (answer: boolean): number => (answer ? 1 : 0);

function fieldQuestion(random: Random, get: (packet: PacketView) => Field | null | undefined): Question {
  const kind = random.below(5);
  const mac = random.pick(MACS);
  const prefix4 = random.pick(PREFIXES4);
  const prefix6 = random.pick(PREFIXES6);
  const port = random.pick([80, 53, 443, 1000, 0x8000]);
  const upTo = random.pick([1023, 1024, 52, 65_535, 4000]);
  return (packet, state) => {
    const field = get(packet);
    if (field === null || field === undefined) return 2;
    if (kind === 0) return field.bytes[field.bytes.length - 1] % 3;
    if (kind === 1 && field.kind !== 'port' && field.kind !== 'mac') return state.prefixes.longest(field) ?? 2;
    if (field.kind === 'mac') return yes(kind < 4 ? field.is(mac) : field.between(MACS[0], MACS[3]));
    if (field.kind === 'port')
      return kind === 2 ? yes(field.between(Math.min(port, upTo), Math.max(port, upTo))) : yes(field.is(port));
    const prefix = field.kind === 'ipv4' ? prefix4 : prefix6;
    if (kind === 2) {
      const [low, high] = field.kind === 'ipv4' ? ['10.0.0.1', '10.0.9.255'] : ['2001:db8::1', '2001:db8::ff'];
      return yes(field.between(low, high));
    }
    return prefix.includes('/') ? yes(field.within(prefix)) : yes(field.is(prefix));
  };
}

const transportOf = (packet: PacketView): PortsView | null => packet.tcp ?? packet.udp ?? packet.sctp;

function question(random: Random): Question {
  const ipOf = random.pick<(packet: PacketView) => IpView | null>([
    ({ ip }) => ip,
    ({ ipv4 }) => ipv4,
    ({ ipv6 }) => ipv6,
  ]);
  const value = random.below(4);
  return random.pick<Question>([
    (packet) => yes(packet.ipv4 === null),
    (packet) => yes(packet.ipv6 === null),
    (packet) => yes(packet.tcp === null),
    (packet) => yes(packet.udp === null),
    (packet) => (packet.arp === null ? 2 : packet.arp.operation % 2),
    (packet) => (packet.icmp === null ? 2 : yes(packet.icmp.type === 8)),
    (packet) => (packet.icmpv6 === null ? 2 : packet.icmpv6.type % 2),
    (packet) => (packet.vlan === null ? 2 : packet.vlan.id % 2),
    (packet) => (packet.vlan === null ? 2 : packet.vlan.priority % 3),
    (packet) => (packet.innerVlan === null ? 2 : packet.innerVlan.id % 3),
    (packet) => (packet.tcp === null ? 2 : yes(packet.tcp.hasFlags(2) !== 0)),
    (packet) => yes(packet.ethernet.isMulticast),
    (packet) => packet.ethernet.type % 3,
    (packet) => packet.inPort % 3,
    (packet) => (ipOf(packet)?.protocol ?? 2) % 3,
    (packet) => (ipOf(packet)?.ttl ?? 2) % 3,
    (packet) => (ipOf(packet)?.dscp ?? 2) % 3,
    (packet) => ['none', 'first', 'later'].indexOf(ipOf(packet)?.fragment ?? 'later'),
    (packet, state) => state.byPort.get(packet.inPort) ?? 2,
    (_, state) => state.switches.get() % 3,
    (_, state) => yes(state.marked.has(value)),
    (packet, state) => state.backends.pick(packet.flowHash()) ?? 2,
    fieldQuestion(random, (packet) => ipOf(packet)?.source),
    fieldQuestion(random, (packet) => ipOf(packet)?.destination),
    fieldQuestion(random, (packet) => ipOf(packet)?.source),
    fieldQuestion(random, (packet) => transportOf(packet)?.source),
    fieldQuestion(random, (packet) => transportOf(packet)?.destination),
    fieldQuestion(random, ({ ethernet }) => ethernet.source),
    fieldQuestion(random, ({ ethernet }) => ethernet.destination),
    fieldQuestion(random, ({ arp }) => arp?.targetAddress),
  ]);
}

function act(random: Random, counters: readonly FlowCounter[], forwards: boolean): Act {
  const port = 1 + random.below(5);
  const counter = random.pick(counters);
  const value = random.below(256);
  const acts: Act[] = [
    (_, decision) => decision.count(counter),
    (_, decision) => {
      decision.ethernet.destination = Uint8Array.of(2, 0, 0, 0, 9, value);
    },
    (packet, decision) => {
      if (packet.ipv4 !== null) decision.ipv4.destination = `10.9.8.${value}`;
      else if (packet.ipv6 !== null) decision.ipv6.source = `2001:db8::${value.toString(16)}`;
      else if (packet.arp !== null) decision.arp.operation = value % 3;
    },
    (packet, decision) => {
      if (packet.ipv4 !== null) decision.ipv4.dscp = value & 63;
      if (packet.ipv6 !== null) decision.ipv6.ttl = value;
    },
    (packet, decision) => {
      if (packet.tcp !== null) decision.tcp.destinationPort = 8000 + value;
      else if (packet.udp !== null) decision.udp.sourcePort = 8000 + value;
    },
    (packet, decision) => {
      if (packet.vlan === null) decision.pushVlan({ id: value, priority: value & 7 });
      else decision.vlan.id = value;
    },
    (packet, decision) => {
      if (packet.vlan !== null) decision.popVlan();
    },
    (packet, decision) => {
      if (packet.ip !== null) decision.decrementTtl();
    },
  ];
  if (forwards) {
    acts.push(
      (_, decision) => decision.output(port),
      (_, decision) => decision.output(port),
      (_, decision) => decision.flood(),
    );
  }
  if (random.below(4) === 0) acts.push((_, decision) => decision.drop('DENIED'));
  return random.pick(acts);
}

function tree(random: Random, depth: number, counters: readonly FlowCounter[], forwards: boolean): Node {
  const acts = Array.from({ length: random.below(forwards ? 3 : 2) }, () => act(random, counters, forwards));
  if (depth === 0 || random.below(5) === 0) {
    if (forwards && random.below(8) !== 0)
      acts.push((_, decision) => decision.output(1 + random.below(1) + (depth % 4)));
    return { ask: null, branches: [], acts };
  }
  return {
    ask: question(random),
    branches: Array.from({ length: 3 }, () => tree(random, depth - 1, counters, forwards)),
    acts,
  };
}

/** A random decider. It is the same function for as long as it lives. */
export function randomDecider(
  random: Random,
  state: RandomState,
  counters: readonly FlowCounter[],
  forwards: boolean,
): Decider {
  const root = tree(random, 4, counters, forwards);
  const refuses = question(random);
  const walk = (packet: PacketView, decision: Decision): void => {
    let node = root;
    for (;;) {
      for (const each of node.acts) each(packet, decision);
      if (node.ask === null) return;
      node = node.branches[node.ask(packet, state) % 3];
    }
  };
  if (forwards) return { decide: walk };
  return {
    decide: walk,
    decideOutput(packet: PacketView, portId: number, decision: OutputDecision): void {
      if (portId === 3 && refuses(packet, state) === 1) decision.drop('NOT_THERE');
    },
  };
}
