/** The policies of ports as a decider: they mark what they need, and packets that agree in that are decided alike. */
import { expect, test } from 'vitest';
import type { PlacedDecider } from '../../decide/index.ts';
import { Pass, PassKind } from '../../decide/pass.ts';
import type { DecisionRecord } from '../../decide/record.ts';
import { KEY_WORDS } from '../../flow/index.ts';
import { ethernet, fuzzRounds, ipv4, tcp, udp } from '../../flow/testing/frames.ts';
import { hostileFrame, randomFrame, randomKind } from '../../offload/testing/frames.ts';
import { keyOf } from '../../offload/testing/packets.ts';
import { RandomSource, runSeed } from '../../offload/testing/random.ts';
import type { PortPropertyType } from '../control/properties.ts';
import type { ExtensionHandle } from '../extension.ts';
import { Bench, passing } from '../testing.ts';
import { randomProperty, settle } from './testing.ts';

const PORTS = [1, 2, 3, 4];

/** Sends everything to all others. */
const FLOOD: PlacedDecider = {
  name: 'flood',
  type: 'forwarding',
  decider: { decide: (_, decision) => decision.flood() },
};

/** A switch whose policies are asked about keys. */
class Lab {
  readonly bench = new Bench();
  readonly #handle: ExtensionHandle;

  constructor() {
    for (const port of PORTS) this.bench.port(port);
    this.#handle = this.bench.enable('forwarder', 'forwarding', (handle) => passing(handle));
  }

  set(portId: number, property: object): void {
    this.bench.sw.setPortProperty(portId, property).result();
  }

  decide(key: Uint32Array, kind: number = PassKind.RECALL): DecisionRecord {
    const { shortcuts } = this.#handle;
    const [policies] = shortcuts.decidersOfCarried().below;
    return new Pass(shortcuts.ports).run(key, [policies.placed, FLOOD], kind);
  }

  /** What policies look at of a frame, as `field bits`. */
  looks(frame: readonly number[], port: number): string[] {
    const { trace } = this.decide(keyOf(frame, port).words, PassKind.TRACE);
    return (trace?.looks ?? []).filter(({ by }) => by === 'port policies').map(({ field, bits }) => `${field} ${bits}`);
  }
}

function summary({ mask, actions, drop, excluded, counters, everyPacket }: DecisionRecord): unknown {
  return { mask: [...mask], actions: [...actions], drop, excluded, counters, everyPacket };
}

test('what policies did not look at does not matter', () => {
  const seed = runSeed();
  let kept = 0;
  for (let round = 0; round < fuzzRounds(25); round += 1) {
    const random = new RandomSource(seed + round);
    const lab = new Lab();
    for (let i = 0; i < 10; i += 1) {
      const { type, property } = randomProperty(random);
      const portId = random.pick(PORTS);
      try {
        if (property === null) lab.bench.sw.deletePortProperty(portId, type as PortPropertyType).result();
        else lab.set(portId, property);
      } catch {
        // Two that contradict each other, or one that is not there.
      }
    }
    for (let i = 0; i < 30; i += 1) {
      const kind = randomKind(random);
      let frame = randomFrame(random, kind);
      settle(random, frame, kind);
      if (random.once(6)) frame = hostileFrame(random, frame, kind);
      const key = keyOf(frame, random.pick(PORTS)).words;
      const record = lab.decide(key);
      if (record.everyPacket === null) kept += 1;
      for (let other = 0; other < 6; other += 1) {
        const changed = key.slice();
        for (let word = 0; word < KEY_WORDS; word += 1)
          if (random.once(3)) changed[word] ^= random.word() & ~record.mask[word];
        expect(summary(lab.decide(changed)), `MILLRACE_SEED=${seed + round}`).toEqual(summary(record));
      }
    }
  }
  expect(kept).toBeGreaterThan(100);
}, 120_000);

const web = ethernet(0x0800, ipv4(6, tcp({ dst: 80 }), { src: '10.0.0.1' }));

test('nothing is looked at of packets that no policy concerns', () => {
  const lab = new Lab();
  lab.set(2, { type: 'guard', dhcp: true, router: true });
  expect(lab.looks(web, 1)).toEqual([]);
  const { deciders } = lab.decide(keyOf(web, 1).words);
  expect(deciders).toEqual(['flood']);
});

test('a rule looks at the prefix that it names, and at ports only behind its protocol', () => {
  const lab = new Lab();
  lab.set(1, {
    type: 'acl',
    rules: [
      { direction: 'in', action: 'deny', localIp: '192.168.0.0/16' },
      { direction: 'in', action: 'deny', protocol: 17, remotePort: 53 },
    ],
  });
  // 10.0.0.1 is another from the first bit on.
  expect(lab.looks(web, 1)).toContain('ipv4.source 1');
  expect(lab.looks(web, 1).filter((look) => /^(tcp|udp)/.test(look))).toEqual([]);
  expect(lab.looks(ethernet(0x0800, ipv4(17, udp({ dst: 53 }))), 1)).toContain('udp.destination 16');
});

test('a guard looks at ports of UDP and types of ICMP, and at nothing of TCP', () => {
  const lab = new Lab();
  lab.set(1, { type: 'guard', dhcp: true, router: true });
  expect(lab.looks(web, 1)).toEqual(['inPort 32', 'ethernet.type 16', 'ip.protocol 8', 'ip.fragment 2']);
});

test('a spoof guard looks at the source address alone', () => {
  const lab = new Lab();
  lab.set(1, { type: 'security', macAddresses: ['02:00:00:00:00:09'], allowIeeePriorityTag: true });
  // Up to the first bit that differs.
  expect(lab.looks(web, 1)).toEqual(['inPort 32', 'ethernet.source 45']);
});
