import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fuzzRounds } from '../../net/wire/testing.ts';
import { FilterConfigurationError, parseFilterConfiguration } from './schema.ts';

function issuesOf(value: unknown): readonly string[] {
  try {
    parseFilterConfiguration(value);
  } catch (error) {
    if (error instanceof FilterConfigurationError) return error.issues;
    throw error;
  }
  return [];
}

const rule = { name: 'r', action: 'drop' };

test.each([
  [{ ...rule, sorceIp: '10.0.0.1' }, 'rule 1 "r": unknown key "sorceIp"; there are name, action, direction'],
  [{ ...rule, sourceIp: '10.0.0.0/33' }, 'rule 1 "r": sourceIp: "10.0.0.0/33": the prefix length of an IPv4 address'],
  [{ ...rule, sourceIp: '10.0.0.1/8' }, 'rule 1 "r": sourceIp: "10.0.0.1/8" has bits set behind its prefix length'],
  [{ ...rule, destinationIp: 'example.org' }, 'destinationIp: "example.org" is neither an IPv4 nor an IPv6 address'],
  [{ ...rule, sourceIp: 7 }, 'rule 1 "r": sourceIp: must be an IPv4 or IPv6 address or prefix'],
  [{ ...rule, sourceMac: '02:00' }, 'rule 1 "r": sourceMac: "02:00" is not a MAC address'],
  [
    { ...rule, sourceMac: '02:00:00:00:00:01/00:00:00:00:00:ff' },
    'sourceMac: "02:00:00:00:00:01/00:00:00:00:00:ff" has bits',
  ],
  [{ ...rule, vlan: 4095 }, 'rule 1 "r": vlan: "4095" is not a VLAN id from 0 (none) to 4094'],
  [{ ...rule, vlan: '20-10' }, 'rule 1 "r": vlan: "20-10": the lower number comes first'],
  [{ ...rule, destinationPort: [80, 70_000] }, 'destinationPort: "70000" is not a port number'],
  [{ ...rule, destinationPort: 80.5 }, 'destinationPort: "80.5" is not a port number'],
  [{ ...rule, destinationPort: [] }, 'destinationPort: must be a port number'],
  [{ ...rule, protocol: 'tpc' }, 'protocol: "tpc" is not an IP protocol as a number or one of icmp'],
  [{ ...rule, etherType: 'ipx' }, 'etherType: "ipx" is not an EtherType'],
  [{ ...rule, tcpFlags: 'syn sin' }, 'tcpFlags: "sin" is not a TCP flag; there are fin, syn'],
  [{ ...rule, tcpFlags: 'syn !syn' }, 'tcpFlags: "syn !syn" names syn twice'],
  [{ ...rule, tcpFlags: '' }, 'tcpFlags: names no TCP flag'],
  [{ ...rule, fragment: 'maybe' }, 'fragment: must be yes or no'],
  [{ ...rule, action: 'deny' }, 'action: must be allow, drop or count'],
  [{ ...rule, direction: 'up' }, 'direction: must be in, out or both'],
  [{ ...rule, ports: 'web' }, 'ports: must be a list of port names'],
  [{ ...rule, ports: [] }, 'ports: must name at least one port'],
  [{ action: 'drop' }, 'rule 1: name: must be a name'],
  [{ name: 'no spaces', action: 'drop' }, 'name: must be 1 to 63 letters'],
  ['drop all', 'rule 1: must be a mapping with the keys of a rule'],
  [{ ...rule, sourceIp: '10.0.0.1', destinationIp: 'fd00::1' }, 'can never match: destinationIp contradicts sourceIp'],
  [{ ...rule, protocol: 'icmp', sourcePort: 1 }, 'can never match: sourcePort contradicts protocol'],
  [{ ...rule, etherType: 'arp', protocol: 'tcp' }, 'can never match: protocol contradicts etherType'],
  [{ ...rule, tcpFlags: 'syn', icmpType: 8 }, 'can never match: icmpType contradicts tcpFlags'],
  [{ ...rule, state: 'new' }, 'state: must be a list of new, established, related, invalid'],
  [{ ...rule, state: [] }, 'state: must name at least one of new, established, related, invalid'],
  [{ ...rule, state: ['old'] }, 'state[0]: is no state; there are new, established, related, invalid'],
  [{ ...rule, state: ['new', 'new'] }, 'state: names a state twice'],
  [{ ...rule, etherType: 'arp', state: ['new'] }, 'can never match: state contradicts etherType'],
  [{ ...rule, fragment: 'yes', state: ['new'] }, 'can never match: state contradicts fragment'],
  [{ ...rule, protocol: 'icmpv6', icmpType: '133-136', state: ['new'] }, 'can never match: state contradicts icmpType'],
])('the mistake in rule %# is named with the rule and the key', (given, sentence) => {
  const issues = issuesOf({ rules: [given] });
  expect(issues).toHaveLength(1);
  expect(issues[0]).toContain(sentence);
});

test('every mistake of a list is named at once', () => {
  const issues = issuesOf({ rules: [rule, { ...rule, vlan: -1 }, { name: 'x' }, rule] });
  expect(issues).toEqual([
    expect.stringContaining('rule 2 "r": vlan'),
    expect.stringContaining('rule 3 "x": action'),
    'rule 4 "r": name: rule 1 has the same',
  ]);
});

test('unknown keys beside the rules are refused', () => {
  expect(issuesOf({ rule: [] })).toEqual(['unknown key "rule"; there are default, rules']);
  expect(issuesOf([])).toEqual(['must be a mapping with "default" and "rules"']);
  expect(issuesOf({ default: 'reject' })).toEqual(['default: must be allow or drop']);
});

test('without a configuration everything is allowed', () => {
  expect(parseFilterConfiguration(undefined)).toEqual({ default: 'allow', rules: [], given: {} });
});

test('any JSON is either a configuration or refused with the error of the filter', () => {
  const keys = fc.constantFrom(
    'name',
    'action',
    'vlan',
    'sourceIp',
    'destinationPort',
    'tcpFlags',
    'ports',
    'toString',
  );
  const value = fc.oneof(fc.constantFrom('drop', '10.0.0.0/8', '1-2', 'syn', 5), fc.jsonValue({ maxDepth: 1 }));
  const anything = fc.oneof(
    fc.jsonValue(),
    fc.record({ rules: fc.array(fc.dictionary(keys, value), { maxLength: 4 }) }),
  );
  fc.assert(
    fc.property(anything, (candidate) => {
      issuesOf(candidate);
    }),
    { numRuns: fuzzRounds(1000) },
  );
});
