/** Decisions as programs run them: what eBPF does with a packet by a flow that was kept is what deciding about it afresh does. */
import { beforeAll, expect, test } from 'vitest';
import { FlowCounter } from '../src/decide/counter.ts';
import { DecidedFlows } from '../src/decide/decided-flows.ts';
import type { PlacedDecider } from '../src/decide/decider.ts';
import { ObservedPorts } from '../src/decide/state/ports.ts';
import { Afresh } from '../src/decide/testing/afresh.ts';
import { RandomState, randomDecider } from '../src/decide/testing/random-decider.ts';
import { toPortId } from '../src/net/index.ts';
import { type FrameKind, hostileFrame, randomFrame, randomKind } from '../src/offload/testing/frames.ts';
import { GeneratedCarrier } from '../src/offload/testing/generated-carrier.ts';
import { keyOf, packetOf } from '../src/offload/testing/packets.ts';
import { RandomSource, runSeed } from '../src/offload/testing/random.ts';
import type { ExtensionHandle } from '../src/switch/extension.ts';
import { randomProperty, settle } from '../src/switch/policies/testing.ts';
import { Bench, passing } from '../src/switch/testing.ts';
import { type Host, useLab } from './support/index.ts';

const lab = useLab();
const PORTS = 4;
/** Stacks of deciders; MILLRACE_FUZZ multiplies them. */
const ROUNDS = 15 * Math.max(1, Number(process.env.MILLRACE_FUZZ) || 1);
/** Masks that a program takes. */
const MASKS = 24;
let host: Host;
const ifindexes: number[] = [];

beforeAll(() => {
  [host] = lab.hosts(1);
  for (let port = 1; port <= PORTS; port += 1) {
    host.ip(`tuntap add dev port${port} mode tap`);
    host.ip(`link set port${port} up`);
    ifindexes.push(Number(host.ip(`-o link show dev port${port}`).split(':')[0]));
  }
});

function someFrame(random: RandomSource, kinds: readonly FrameKind[], isSmallWorld: boolean): number[] {
  const kind = random.pick(kinds);
  const frame = randomFrame(random, kind);
  if (isSmallWorld) settle(random, frame, kind);
  return random.once(6) ? hostileFrame(random, frame, kind) : frame;
}

/** Ports without policies. */
function plainPorts(): ObservedPorts {
  const ports = new ObservedPorts();
  for (let portId = 1; portId <= PORTS; portId += 1) ports.set(toPortId(portId), `port${portId}`);
  return ports;
}

/** Ports of a switch with random policies, and these as a decider. */
function portsWithPolicies(random: RandomSource): { ports: ObservedPorts; policies: PlacedDecider } {
  const bench = new Bench();
  for (let portId = 1; portId <= PORTS; portId += 1) bench.port(portId);
  for (let i = 0; i < 8; i += 1) {
    const { property } = randomProperty(random);
    try {
      if (property !== null) bench.sw.setPortProperty(1 + random.below(PORTS), property).result();
    } catch {
      // Two that contradict each other.
    }
  }
  const { shortcuts }: ExtensionHandle = bench.enable('forwarder', 'forwarding', (handle) => passing(handle));
  const [{ placed }] = shortcuts.decidersOfCarried().below;
  return { ports: shortcuts.ports, policies: placed };
}

/** @returns how many packets were carried */
function round(hook: 'tc' | 'xdp', seed: number, hasPolicies: boolean): number {
  const random = new RandomSource(seed);
  const state = new RandomState();
  for (let i = 0; i < 20; i += 1) state.change(random);
  const { ports, policies } = hasPolicies ? portsWithPolicies(random) : { ports: plainPorts(), policies: null };
  const counters = ['a', 'b'].map((name) => new FlowCounter(name, () => {}));
  const deciders: PlacedDecider[] = [
    ...(policies === null ? [] : [policies]),
    { name: 'filter', type: 'filtering', decider: randomDecider(random, state, counters, false) },
    { name: 'forwarder', type: 'forwarding', decider: randomDecider(random, state, counters, true) },
  ];
  const flows = new DecidedFlows({
    ports,
    deciders: () => deciders,
    nowMs: () => 1,
    maximumMasks: MASKS,
    maximumFlows: 200,
  });
  const kinds = Array.from({ length: 4 }, () => randomKind(random));
  for (let i = 0; i < 120; i += 1) {
    const key = keyOf(someFrame(random, kinds, hasPolicies), 1 + random.below(PORTS));
    if (flows.table.match(key.words) === -1) flows.decide(key, null);
  }
  const afresh = new Afresh(ports);
  const carrier = new GeneratedCarrier(flows.table, hook, { low: 1, high: 1 }, ifindexes);
  let carried = 0;
  try {
    for (let i = 0; i < 400; i += 1) {
      const frame = someFrame(random, kinds, hasPolicies);
      const port = 1 + random.below(PORTS);
      const run = carrier.run(Uint8Array.from(frame), port);
      if (run.verdict === 'punted' && run.sent.length === 0) continue;
      carried += 1;
      afresh.run(packetOf(frame), keyOf(frame, port), deciders);
      const where = `MILLRACE_SEED=${seed} (${hook}): port ${port}, frame ${Buffer.from(frame).toString('hex')}`;
      const sent = run.sent.map(
        (each) => `${1 + ifindexes.indexOf(each.ifindex)} ${Buffer.from(each.frame).toString('hex')}`,
      );
      expect(sent, where).toEqual(afresh.sent);
      expect(run.verdict, where).toBe(afresh.sent.length > 0 ? 'sent' : 'dropped');
    }
  } finally {
    carrier.close();
  }
  return carried;
}

test.each([
  ['tc', 'no', false],
  ['xdp', 'no', false],
  ['tc', 'random', true],
  ['xdp', 'random', true],
] as const)(
  '%s, %s policies of ports: what was decided is done to every packet that agrees in what was looked at',
  (hook, _which, hasPolicies) => {
    const seed = runSeed();
    const rounds = process.env.MILLRACE_SEED === undefined ? ROUNDS : 1;
    let carried = 0;
    host.inside(() => {
      for (let i = 0; i < rounds; i += 1) carried += round(hook, seed + i, hasPolicies);
    });
    if (rounds > 1) expect(carried).toBeGreaterThan(rounds * (hasPolicies ? 15 : 40));
  },
);
