/** Action lists as eBPF: random flows and frames through the engine and through generated programs, at tc and at xdp. */
import { beforeAll, expect, test } from 'vitest';
import { attachTcx, loadProgram, ProgramBuilder } from '../src/bpf/index.ts';
import { NetworkNamespace, openTap } from '../src/host/index.ts';
import { ActionsDifferential, type ActionsTally, emptyTally } from '../src/offload/testing/actions-rounds.ts';
import { OUTPUT_PORTS } from '../src/offload/testing/flows.ts';
import { LiveActions, type LivePort } from '../src/offload/testing/live-actions.ts';
import { runSeed } from '../src/offload/testing/random.ts';
import { type Host, useLab } from './support/index.ts';

const lab = useLab();
let host: Host;
const ifindexes: number[] = [];

/**
 * Rounds of 600 to 800 cases: more than 100,000 in all. MILLRACE_FUZZ multiplies them; MILLRACE_SEED is the seed of one round, as a failure
 * tells it.
 */
const ROUNDS = 80 * Math.max(1, Number(process.env.MILLRACE_FUZZ) || 1);

beforeAll(() => {
  [host] = lab.hosts(1);
  for (let port = 1; port <= OUTPUT_PORTS; port += 1) {
    host.ip(`tuntap add dev out${port} mode tap`);
    host.ip(`link set out${port} up`);
    const [line] = host.ip(`-o link show dev out${port}`).split(':');
    ifindexes.push(Number(line));
  }
});

function differential(hook: 'tc' | 'xdp'): ActionsTally {
  const tally = emptyTally();
  const seed = runSeed();
  const rounds = process.env.MILLRACE_SEED === undefined ? ROUNDS : 1;
  const namespace = NetworkNamespace.byName(host.name);
  try {
    namespace.run(() => {
      const both = new ActionsDifferential(ifindexes);
      for (let i = 0; i < rounds; i += 1) both.round(hook, seed + i, tally);
    });
  } finally {
    namespace.close();
  }
  if (process.env.MILLRACE_FUZZ !== undefined) console.log(hook, seed, tally);
  return tally;
}

test.each(['tc', 'xdp'] as const)('%s does with every packet what the engine does, and carries most', (hook) => {
  const tally = differential(hook);
  if (process.env.MILLRACE_SEED !== undefined) return;
  expect(tally.carried / tally.cases).toBeGreaterThan(0.6);
});

test.each(['ingress', 'egress'] as const)(
  'super-packets and partial checksums come out as from the engine, %s',
  (direction) => {
    const [live] = lab.hosts(1);
    live.run('sh', ['-c', 'for f in default all; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done']);
    const port = (name: string): LivePort => {
      const adapter = lab.own(live.inside(() => openTap({ interfaceName: name })));
      live.ip(`link set ${name} up`);
      return { adapter, ifindex: Number(live.ip(`-o link show dev ${name}`).split(':')[0]) };
    };
    let input = port('in');
    if (direction === 'egress') {
      // What comes in at the TAP is sent out of a veth, where the program stands.
      lab.veth(live, 'via', live, 'peer');
      const ifindex = Number(live.ip('-o link show dev via').split(':')[0]);
      const b = new ProgramBuilder('via');
      b.call('redirect', ifindex, 0);
      b.exit();
      const program = lab.own(loadProgram({ type: 'sched_cls', code: b }));
      lab.own(live.inside(() => attachTcx({ program, netdev: input.ifindex, direction: 'ingress' })));
      input = { adapter: input.adapter, ifindex };
    }
    const outputs = Array.from({ length: OUTPUT_PORTS }, (_, i) => port(`out${i + 1}`));
    const tally = emptyTally();
    const seed = runSeed();
    const both = new LiveActions(input, direction, outputs);
    live.inside(() => {
      for (let i = 0; i < ROUNDS / 4; i += 1) both.round(seed + i, tally);
    });
    if (process.env.MILLRACE_FUZZ !== undefined) console.log(direction, seed, tally, both.sent);
    expect(tally.carried / tally.cases).toBeGreaterThan(0.4);
    expect(both.sent / tally.carried).toBeGreaterThan(0.4);
  },
);
