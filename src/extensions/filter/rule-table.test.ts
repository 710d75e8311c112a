import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Pass, PassKind } from '../../decide/pass.ts';
import { ObservedPorts } from '../../decide/state/ports.ts';
import { Extraction, extract, FlowKey, Word } from '../../flow/index.ts';
import { formatIpv4, formatIpv6, formatMac, HeaderOffsets, toKeyPort, toPortId } from '../../net/index.ts';
import { packetOf, randomFrame } from '../../net/match/testing.ts';
import { fuzzRounds, randomNumbers } from '../../net/wire/testing.ts';
import type { Decision, PacketView } from '../../switch/index.ts';
import { Judge } from './judge.ts';
import { Judgement, NO_RULE, RuleTable } from './rule-table.ts';
import { FilterConfigurationError, parseFilterConfiguration } from './schema.ts';

/** A rule as written, of the forms that the generator below writes. */
interface Written {
  name: string;
  action: 'allow' | 'drop' | 'count';
  direction?: 'in' | 'out' | 'both';
  ports?: string[];
  vlan?: number;
  sourceMac?: string;
  destinationMac?: string;
  etherType?: string | number;
  sourceIp?: string;
  destinationIp?: string;
  protocol?: string | number | string[];
  sourcePort?: number | string | (number | string)[];
  destinationPort?: number | string | (number | string)[];
  tcpFlags?: string;
  fragment?: boolean;
  icmpType?: number;
}

/** A packet as text and numbers. */
class Facts {
  readonly headers = new HeaderOffsets();
  readonly frame: Uint8Array;
  readonly vlan: number;

  constructor(frame: Uint8Array, vlan: number) {
    this.frame = frame;
    this.vlan = vlan;
    this.headers.parseBytes(frame, 0, frame.length);
  }

  mac(at: number): string {
    return this.frame.length < 12 ? '00:00:00:00:00:00' : formatMac(this.frame, at);
  }

  get protocol(): number | null {
    return this.headers.l4Offset >= 0 ? this.headers.ipProtocol : null;
  }

  get isTransportThere(): boolean {
    return this.headers.payloadOffset >= 0 && this.headers.fragment !== 2;
  }

  isInPrefix(prefix: string, isSource: boolean): boolean {
    const { ipVersion, l3Offset } = this.headers;
    const [address, length] = prefix.split('/');
    const isV6 = address.includes(':');
    if (ipVersion !== (isV6 ? 6 : 4)) return false;
    const at = l3Offset + (isV6 ? 8 : 12) + (isSource ? 0 : isV6 ? 16 : 4);
    const size = isV6 ? 16 : 4;
    const mine = bits(this.frame.subarray(at, at + size));
    const text = isV6 ? formatIpv6(this.frame, at) : formatIpv4(this.frame, at);
    if (length === undefined) return text === address;
    return mine.slice(0, Number(length)) === PREFIX_BITS[address].slice(0, Number(length));
  }
}

function bits(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
}

const PREFIX_BITS: Record<string, string> = {
  '10.0.0.0': bits(Uint8Array.of(10, 0, 0, 0)),
  '0.0.0.0': '0'.repeat(32),
  'fd00::': bits(Uint8Array.of(0xfd, ...new Array<number>(15).fill(0))),
  'fd00:0:0:1::': bits(Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)),
};
const PROTOCOLS: Record<string, number> = { tcp: 6, udp: 17, sctp: 132, icmp: 1, icmpv6: 58, gre: 47 };
const ETHER_TYPES: Record<string, number> = { ipv4: 0x800, ipv6: 0x86dd, arp: 0x806, lldp: 0x88cc };
const FLAGS = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr'];

function isListed(given: number | string | readonly (number | string)[], value: number): boolean {
  return [given].flat().some((item) => {
    const [low, high = low] = String(item).split('-').map(Number);
    return value >= low && value <= high;
  });
}

/** The meaning of a rule, one field after the other. */
function holds(rule: Written, facts: Facts, direction: 'in' | 'out', port: string | null): boolean {
  const { headers } = facts;
  if ((rule.direction ?? 'both') !== 'both' && rule.direction !== direction) return false;
  if (rule.ports !== undefined && (port === null || !rule.ports.includes(port))) return false;
  if (rule.vlan !== undefined && rule.vlan !== facts.vlan) return false;
  for (const [mask, at] of [
    [rule.destinationMac, 0],
    [rule.sourceMac, 6],
  ] as const) {
    if (mask === undefined) continue;
    if (mask.startsWith('01:') ? Number.parseInt(facts.mac(at).slice(0, 2), 16) % 2 !== 1 : facts.mac(at) !== mask) {
      return false;
    }
  }
  if (rule.etherType !== undefined) {
    const wanted = typeof rule.etherType === 'number' ? rule.etherType : ETHER_TYPES[rule.etherType];
    if (headers.etherType !== wanted) return false;
  }
  if (rule.sourceIp !== undefined && !facts.isInPrefix(rule.sourceIp, true)) return false;
  if (rule.destinationIp !== undefined && !facts.isInPrefix(rule.destinationIp, false)) return false;
  if (rule.protocol !== undefined) {
    const wanted = [rule.protocol].flat().map((name) => (typeof name === 'number' ? name : PROTOCOLS[name]));
    if (facts.protocol === null || !wanted.includes(facts.protocol)) return false;
  }
  const hasPorts = [6, 17, 132].includes(facts.protocol ?? -1) && facts.isTransportThere;
  if (rule.sourcePort !== undefined && !(hasPorts && isListed(rule.sourcePort, headers.sourcePort))) return false;
  if (rule.destinationPort !== undefined && !(hasPorts && isListed(rule.destinationPort, headers.destinationPort))) {
    return false;
  }
  if (rule.tcpFlags !== undefined) {
    if (facts.protocol !== 6 || !facts.isTransportThere) return false;
    const flags = facts.frame[headers.l4Offset + 13];
    for (const word of rule.tcpFlags.split(' ')) {
      const isSet = ((flags >> FLAGS.indexOf(word.replace('!', ''))) & 1) === 1;
      if (isSet === word.startsWith('!')) return false;
    }
  }
  if (rule.fragment !== undefined && (headers.ipVersion === 0 || headers.fragment > 0 !== rule.fragment)) return false;
  if (rule.icmpType !== undefined) {
    const isIcmp = facts.protocol === (headers.ipVersion === 4 ? 1 : 58) && facts.isTransportThere;
    if (!isIcmp || headers.icmpType !== rule.icmpType) return false;
  }
  return true;
}

const prefix = fc.constantFrom(
  '10.0.0.1',
  '10.0.0.0/30',
  '0.0.0.0/0',
  'fd00::1',
  'fd00::/16',
  'fd00:0:0:1::/64',
  'fd00::/33',
);
const ports = fc.constantFrom<number | string | (number | string)[]>(
  80,
  22,
  '50-100',
  '443-65535',
  [22, 80],
  [53, '400-500'],
);
const written: fc.Arbitrary<Omit<Written, 'name'>> = fc.record(
  {
    action: fc.constantFrom<Written['action']>('allow', 'drop', 'drop', 'count'),
    direction: fc.constantFrom<'in' | 'out' | 'both'>('in', 'out', 'both'),
    ports: fc.constantFrom(['web'], ['db'], ['web', 'db'], ['nowhere']),
    vlan: fc.constantFrom(0, 10, 20),
    sourceMac: fc.constantFrom('02:00:00:00:00:0a', '01:00:00:00:00:00/01:00:00:00:00:00'),
    destinationMac: fc.constantFrom('ff:ff:ff:ff:ff:ff', '01:00:00:00:00:00/01:00:00:00:00:00'),
    etherType: fc.constantFrom<string | number>('ipv4', 'ipv6', 'arp', 'lldp', 0x8847, 0x806),
    sourceIp: prefix,
    destinationIp: prefix,
    protocol: fc.constantFrom<string | number | string[]>('tcp', 'udp', 'icmp', 'icmpv6', 'gre', 132, ['tcp', 'udp']),
    sourcePort: ports,
    destinationPort: ports,
    tcpFlags: fc.constantFrom('syn', 'syn !ack', '!rst', 'fin psh !cwr'),
    fragment: fc.boolean(),
    icmpType: fc.constantFrom(0, 8, 128, 135),
  },
  { requiredKeys: ['action'] },
);
/** Fields are left out more often than not, so that rules match. */
const sparse = fc.tuple(written, fc.infiniteStream(fc.nat(5))).map(([rule, dice]) => {
  const entries = Object.entries(rule).filter(([key]) => key === 'action' || dice.next().value < 1);
  return Object.fromEntries(entries) as Omit<Written, 'name'>;
});

/** Rules without those that contradict themselves, which the schema refuses. */
const ruleList = fc.array(sparse, { maxLength: 12 }).map((rules) =>
  rules
    .map((rule, number): Written => ({ ...rule, name: `rule-${number}` }))
    .filter((rule) => {
      try {
        parseFilterConfiguration({ rules: [rule] });
        return true;
      } catch (error) {
        if (error instanceof FilterConfigurationError && error.message.includes('can never match')) return false;
        throw error;
      }
    }),
);

const PORT_IDS = new Map([
  ['web', 3],
  ['db', 40_000],
]);
const PLACES = [
  [3, 'web'],
  [40_000, 'db'],
  [7, null],
] as const;

test('the compiled table decides as a naive interpreter of the same rules does', () => {
  const random = randomNumbers(4);
  const fields = new Judgement();
  const samples = Array.from({ length: 120 }, () => {
    const frame = randomFrame(random);
    const vlan = [0, 10, 20][random(3)];
    return { packet: packetOf(frame), facts: new Facts(frame, vlan), vlan };
  });
  let decided = 0;
  let tried = 0;
  fc.assert(
    fc.property(ruleList, (rules) => {
      const table = new RuleTable(parseFilterConfiguration({ rules }), PORT_IDS);
      for (const { packet, facts, vlan } of samples) {
        for (const direction of ['in', 'out'] as const) {
          for (const [portId, port] of PLACES) {
            let expected = NO_RULE;
            const matching: number[] = [];
            for (const [number, rule] of rules.entries()) {
              if (!holds(rule, facts, direction, port)) continue;
              matching.push(number);
              if (rule.action === 'count') continue;
              expected = number;
              break;
            }
            const index = direction === 'in' ? 0 : 1;
            fields.read(packet, table.needs[index], vlan);
            table.judge(fields, index, portId);
            const { matched: said, decided: judged } = fields;
            tried += 1;
            if (judged !== NO_RULE) decided += 1;
            if (judged !== expected || said.join() !== matching.join()) {
              const hex = Buffer.from(facts.frame).toString('hex');
              throw new Error(
                `${direction} ${port}, VLAN ${vlan}: ${judged} [${said}], not ${expected} [${matching}]: ${hex}`,
              );
            }
          }
        }
      }
    }),
    { numRuns: fuzzRounds(250) },
  );
  expect(decided).toBeGreaterThan(tried / 10);
  expect(decided).toBeLessThan((tried / 10) * 9);
});

test('deciders see what rules see, and packets that agree in what was looked at are judged alike', () => {
  const random = randomNumbers(7);
  const ports = new ObservedPorts();
  ports.set(toPortId(1), 'on');
  const pass = new Pass(ports);
  const samples = Array.from({ length: 150 }, () => {
    const frame = randomFrame(random);
    const key = new FlowKey();
    key.begin(toKeyPort(1));
    const isRead = extract(packetOf(frame), key) === Extraction.DONE;
    return { frame, facts: new Facts(frame, 10), words: key.words, isRead };
  }).filter(({ isRead }) => isRead);
  let byFlow = 0;
  let alone = 0;
  fc.assert(
    fc.property(ruleList, (rules) => {
      const table = new RuleTable(parseFilterConfiguration({ rules }), PORT_IDS);
      const judge = new Judge(() => 10);
      const ask = (words: Uint32Array, frame: Uint8Array, direction: 0 | 1, portId: number) => {
        let matched = '';
        const decider = {
          decide(packet: PacketView, decision: Decision) {
            judge.ask(table, packet, direction, portId, (reason) => decision.everyPacket(reason));
            matched = judge.matched.join();
            decision.output(1);
          },
        };
        const placed = { name: 'it', type: 'forwarding', decider } as const;
        const { mask, everyPacket } = pass.run(words, [placed], PassKind.RECALL, () => frame);
        return { matched, everyPacket, mask };
      };
      for (const { frame, facts, words } of samples) {
        for (const [direction, name] of [
          [0, 'in'],
          [1, 'out'],
        ] as const) {
          const [portId, port] = PLACES[random(PLACES.length)];
          const said = ask(words, frame, direction, portId);
          const expected: number[] = [];
          for (const [number, rule] of rules.entries()) {
            if (!holds(rule, facts, name, port)) continue;
            expected.push(number);
            if (rule.action !== 'count') break;
          }
          const hex = `${name} ${port}: ${Buffer.from(frame).toString('hex')}`;
          // What lies about its length is read as far as it can be.
          if (facts.headers.malformed === 0 && said.matched !== expected.join())
            throw new Error(`[${said.matched}], not [${expected}]: ${hex}`);
          if (said.everyPacket !== null) {
            alone += 1;
            continue;
          }
          byFlow += 1;
          for (let flip = 0; flip < 6; flip += 1) {
            const other = words.slice();
            for (let bits = random(4); bits >= 0; bits -= 1) {
              const word = Word.L2 + random(Word.TUNNEL - Word.L2);
              other[word] ^= (1 << random(32)) & ~said.mask[word];
            }
            const again = ask(other, frame, direction, portId);
            if (again.matched !== said.matched || again.mask.join() !== said.mask.join())
              throw new Error(`[${again.matched}], not [${said.matched}] as for one that agrees: ${hex}`);
          }
        }
      }
    }),
    { numRuns: fuzzRounds(100) },
  );
  expect(byFlow).toBeGreaterThan(1000);
  expect(alone).toBeGreaterThan(10);
  expect(alone).toBeLessThan(byFlow);
});

test('a port rule never matches a later fragment, and matches the first one', () => {
  const table = new RuleTable(
    parseFilterConfiguration({ rules: [{ name: 'web', action: 'drop', destinationPort: 80 }] }),
    PORT_IDS,
  );
  const fields = new Judgement();
  const frame = (fragment: string) =>
    packetOf(
      Uint8Array.from(
        Buffer.from(
          `02000000000a02000000000b0800450000280001${fragment}40060000 0a000001 0a000002 0016005000000001000000005002200000000000`.replaceAll(
            ' ',
            '',
          ),
          'hex',
        ),
      ),
    );
  const judge = (fragment: string) => {
    fields.read(frame(fragment), table.needs[0], 0);
    table.judge(fields, 0, 3);
    return fields.decided;
  };
  expect(judge('0000')).toBe(0);
  expect(judge('2000')).toBe(0);
  expect(judge('2005')).toBe(NO_RULE);
  expect(judge('0005')).toBe(NO_RULE);
});

test('rules follow their ports when those come, go, and change their ids', () => {
  const configuration = parseFilterConfiguration({ rules: [{ name: 'all', action: 'drop', ports: ['web'] }] });
  const table = new RuleTable(configuration, new Map());
  const fields = new Judgement();
  fields.read(packetOf(new Uint8Array(60)), 0, 0);
  const judge = (direction: number, portId: number) => {
    table.judge(fields, direction, portId);
    return fields.decided;
  };
  expect(judge(0, 3)).toBe(NO_RULE);
  expect(table.resolvePorts(new Map([['web', 3]]))).toEqual([3]);
  expect([judge(0, 3), judge(1, 3)]).toEqual([0, 0]);
  expect(table.resolvePorts(new Map([['web', 4]]))).toEqual([3, 4]);
  expect([judge(0, 3), judge(0, 4)]).toEqual([NO_RULE, 0]);
  const others = new Map([
    ['web', 4],
    ['db', 3],
  ]);
  expect(table.resolvePorts(others)).toEqual([]);
});
