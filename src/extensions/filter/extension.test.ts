import { expect, test } from 'vitest';
import { TestBench, tcp } from '../../../examples/testing.ts';
import { packetOf, randomFrame } from '../../net/match/testing.ts';
import { fuzzRounds, randomNumbers } from '../../net/wire/testing.ts';
import type { JsonValue } from '../../switch/index.ts';
import { filterExtension } from './extension.ts';

const CLIENT = '10.0.0.1';
const SERVER = '10.0.0.2';

function benchWith(configuration: unknown, ...ports: string[]): TestBench {
  const bench = new TestBench(...(ports.length === 0 ? ['client', 'server'] : ports));
  bench.virtualSwitch.enableExtension(filterExtension, configuration).result();
  return bench;
}

interface Shown {
  default: { action: string; packets: number; bytes: number };
  rules: { name: string; packets: number; bytes: number; missingPorts: string[]; dropReason?: string }[];
}

function command(bench: TestBench, name: string, args: JsonValue = null): Shown {
  return bench.virtualSwitch.extensionCommand('filter', name, args) as unknown as Shown;
}

function counts(shown: Shown): Record<string, number> {
  return Object.fromEntries(shown.rules.map((rule) => [rule.name, rule.packets]));
}

const ssh = tcp(CLIENT, SERVER, [50_000, 22]);
const web = tcp(CLIENT, SERVER, [50_000, 80]);
const noSsh = { name: 'no-ssh', action: 'drop', direction: 'in', protocol: 'tcp', destinationPort: 22 };

test('what a rule drops is counted at the source port under a reason with the name of the rule', () => {
  const bench = benchWith({ rules: [{ name: 'all', action: 'count', direction: 'in' }, noSsh] });
  bench.send('client', ssh, web, ssh);
  expect(bench.take('server')).toEqual([web]);
  expect(bench.drops('client')).toEqual({ 'filter:NO_SSH': 2 });
  expect(counts(command(bench, 'show'))).toEqual({ all: 3, 'no-ssh': 2 });
  const { counters } = bench.virtualSwitch;
  expect(counters).toMatchObject({ received: 3, dropped: 2, delivered: 1, contextsInUse: 0 });
});

test('packets of one batch that different rules drop are each counted under their own reason', () => {
  const bench = benchWith({
    default: 'drop',
    rules: [noSsh, { name: 'rule', action: 'drop', protocol: 'tcp', destinationPort: 80 }],
  });
  bench.send('client', ssh, web, tcp(CLIENT, SERVER, [1, 9]), web);
  expect(bench.take('server')).toEqual([]);
  expect(bench.drops('client')).toEqual({ 'filter:NO_SSH': 1, 'filter:RULE_RULE': 2, 'filter:DEFAULT': 1 });
});

test('on egress single destinations are excluded, the others stay', () => {
  const rule = { name: 'quiet', action: 'drop', direction: 'out', ports: ['b'] };
  const bench = benchWith({ rules: [rule] }, 'a', 'b', 'c');
  bench.send('a', ssh);
  expect(['a', 'b', 'c'].map((port) => bench.take(port).length)).toEqual([0, 0, 1]);
  expect(bench.drops('b')).toEqual({ 'filter:QUIET': 1 });
  expect(counts(command(bench, 'show'))).toEqual({ quiet: 1 });
  bench.send('b', ssh);
  expect(['a', 'b', 'c'].map((port) => bench.take(port).length)).toEqual([1, 0, 1]);
});

test('with a default of drop, both ways must be allowed', () => {
  const bench = benchWith({ default: 'drop', rules: [{ name: 'in', action: 'allow', direction: 'in' }] });
  bench.send('client', web);
  expect(bench.take('server')).toEqual([]);
  expect(bench.drops('server')).toEqual({ 'filter:DEFAULT': 1 });
  command(bench, 'replace', { default: 'drop', rules: [{ name: 'any', action: 'allow', destinationPort: 80 }] });
  bench.send('client', web, ssh);
  expect(bench.take('server')).toEqual([web]);
});

test('a VLAN in a rule is that of the switch, also where frames are untagged', () => {
  const bench = benchWith({ rules: [{ name: 'ten', action: 'count', direction: 'in', vlan: 10 }] });
  const access = { type: 'vlan', mode: 'access', vlanId: 10 };
  bench.virtualSwitch.setPortProperty(bench.portId('client'), access).result();
  bench.send('client', web);
  bench.send('server', web);
  expect(counts(command(bench, 'show'))).toEqual({ ten: 1 });
});

test('rules name ports that come later, and forget those that go', () => {
  const rule = { name: 'late', action: 'drop', direction: 'in', ports: ['late'] };
  const bench = benchWith({ rules: [rule] }, 'a', 'b');
  expect(command(bench, 'show').rules[0].missingPorts).toEqual(['late']);
  bench.addPort('late');
  expect(command(bench, 'show').rules[0].missingPorts).toEqual([]);
  bench.send('late', ssh);
  bench.send('a', ssh);
  expect(counts(command(bench, 'show'))).toEqual({ late: 1 });
  bench.removePort('late');
  expect(command(bench, 'show').rules[0].missingPorts).toEqual(['late']);
  bench.addPort('other');
  bench.send('other', ssh);
  expect(counts(command(bench, 'show'))).toEqual({ late: 1 });
});

test('replace is whole or not at all, and rules that stay keep their counters', () => {
  const bench = benchWith({ rules: [noSsh] });
  bench.send('client', ssh);
  expect(() => command(bench, 'replace', { rules: [{ ...noSsh, action: 'allow' }, { name: 'x' }] })).toThrow(
    'rule 2 "x": action: must be allow, drop or count',
  );
  bench.send('client', ssh);
  expect(counts(command(bench, 'show'))).toEqual({ 'no-ssh': 2 });
  const shown = command(bench, 'replace', { rules: [{ name: 'first', action: 'count' }, noSsh] });
  expect(counts(shown)).toEqual({ first: 0, 'no-ssh': 2 });
  bench.virtualSwitch.reconfigureExtension('filter', { rules: [noSsh] }).result();
  expect(counts(command(bench, 'show'))).toEqual({ 'no-ssh': 2 });
  expect(() => bench.virtualSwitch.reconfigureExtension('filter', { rules: 5 }).result()).toThrow('must be a list');
  bench.send('client', ssh);
  expect(counts(command(bench, 'show'))).toEqual({ 'no-ssh': 3 });
});

test('reset sets all counters to zero; unknown commands are refused', () => {
  const bench = benchWith({ rules: [noSsh] });
  bench.send('client', ssh, web);
  expect(command(bench, 'show')).toMatchObject({ default: { packets: 1 }, rules: [{ packets: 1 }] });
  expect(command(bench, 'reset')).toMatchObject({
    default: { packets: 0, bytes: 0 },
    rules: [{ packets: 0, bytes: 0 }],
  });
  expect(() => command(bench, 'flush')).toThrow('no command "flush"; there are show, reset and replace');
});

test('a trace says which rules match, and counts nothing', () => {
  const bench = benchWith({ rules: [{ name: 'all', action: 'count' }, noSsh] });
  const traced = (frame: Uint8Array) =>
    bench.virtualSwitch.trace(packetOf(frame), bench.portId('client')).filter(({ stage }) => stage === 'filter');
  expect(
    traced(ssh)
      .map(({ text }) => text)
      .join('\n'),
  ).toContain('in: rule 2 "no-ssh" matches: drop');
  expect(JSON.stringify(traced(ssh))).toContain('filter:NO_SSH');
  expect(
    traced(web)
      .map(({ text }) => text)
      .join('\n'),
  ).toContain('in: no rule decides: allow by default');
  expect(counts(command(bench, 'show'))).toEqual({ all: 0, 'no-ssh': 0 });
});

test('more rule names than there are reasons share one', () => {
  const rules = Array.from({ length: 60 }, (_, port) => ({ ...noSsh, name: `r${port}`, destinationPort: port + 1 }));
  const bench = benchWith({ rules });
  bench.send('client', tcp(CLIENT, SERVER, [1, 1]), tcp(CLIENT, SERVER, [1, 59]), tcp(CLIENT, SERVER, [1, 60]));
  expect(bench.drops('client')).toEqual({ 'filter:R0': 1, 'filter:RULE': 2 });
  const shown = command(bench, 'show').rules.map((rule) => rule.dropReason);
  expect([shown[0], shown[39], shown[40], shown[59]]).toEqual([
    'filter:R0',
    'filter:R39',
    'filter:RULE',
    'filter:RULE',
  ]);
});

test('garbage frames never break the filter, and every packet is accounted for', () => {
  const bench = benchWith(
    {
      rules: [
        { name: 'mac', action: 'drop', sourceMac: '02:00:00:00:00:0a', destinationIp: 'fd00::/16' },
        { name: 'port', action: 'drop', destinationPort: ['50-100', 443], ports: ['a', 'b'] },
        { name: 'flags', action: 'drop', direction: 'out', tcpFlags: 'syn !ack' },
        { name: 'type', action: 'count', icmpType: 8 },
      ],
    },
    'a',
    'b',
    'c',
  );
  const random = randomNumbers(99);
  const rounds = fuzzRounds(3000);
  for (let round = 0; round < rounds; round += 1) {
    bench.send(['a', 'b', 'c'][random(3)], randomFrame(random));
    for (const port of ['a', 'b', 'c']) bench.take(port);
  }
  const { counters } = bench.virtualSwitch;
  expect(counters.received).toBe(rounds);
  expect(counters.delivered + counters.dropped).toBe(rounds);
  expect(bench.virtualSwitch.extensions()[0]).toMatchObject({ name: 'filter', enabled: true, failure: null });
  expect(Math.min(...Object.values(counts(command(bench, 'show'))))).toBeGreaterThan(0);
});
