import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TagAction } from '../adapter.ts';
import { HeaderOffsets } from '../dissect.ts';
import { formatIpv4, formatIpv6, formatMac } from '../wire/address.ts';
import { fuzzRounds, randomNumbers } from '../wire/testing.ts';
import { FilterExpression } from './expression.ts';
import { FilterExpressionError } from './expression-parser.ts';
import { packetOf, randomFrame } from './testing.ts';

/** What a frame holds, as text and numbers: the slow reading that the compiled one is compared with. */
interface Facts {
  readonly etherType: number;
  readonly vlan: number | null;
  readonly macs: readonly [string, string];
  readonly addresses: readonly [string, string] | null;
  readonly protocol: number | null;
  readonly version: number;
  readonly ports: readonly [number, number] | null;
}

function factsOf(frame: Uint8Array): Facts {
  const headers = new HeaderOffsets();
  const malformed = headers.parseBytes(frame, 0, frame.length);
  const { ipVersion, l3Offset, ipProtocol, payloadOffset, fragment } = headers;
  let addresses: [string, string] | null = null;
  if (ipVersion === 4) addresses = [formatIpv4(frame, l3Offset + 12), formatIpv4(frame, l3Offset + 16)];
  if (ipVersion === 6) addresses = [formatIpv6(frame, l3Offset + 8), formatIpv6(frame, l3Offset + 24)];
  if (headers.etherType === 0x0806 && malformed === 0) {
    const fixed = Buffer.from(frame.subarray(l3Offset, l3Offset + 6)).toString('hex');
    if (fixed === '000108000604') addresses = [formatIpv4(frame, l3Offset + 14), formatIpv4(frame, l3Offset + 24)];
  }
  const hasPorts = [6, 17, 132].includes(ipProtocol) && payloadOffset > 0 && fragment !== 2;
  const padded = new Uint8Array(12);
  if (frame.length >= 12) padded.set(frame.subarray(0, 12));
  return {
    etherType: headers.etherType,
    vlan: headers.tagCount === 0 ? null : headers.outerTci % 4096,
    macs: [formatMac(padded, 6), formatMac(padded, 0)],
    addresses,
    protocol: headers.l4Offset >= 0 ? ipProtocol : null,
    version: ipVersion,
    ports: hasPorts ? [headers.sourcePort, headers.destinationPort] : null,
  };
}

function isOneOf<T>(pair: readonly [T, T] | null, side: string, holds: (value: T) => boolean): boolean {
  if (pair === null) return false;
  return (side !== 'dst' && holds(pair[0])) || (side !== 'src' && holds(pair[1]));
}

interface Case {
  readonly text: string;
  readonly holds: (facts: Facts) => boolean;
}

const side = fc.constantFrom('', 'src', 'dst');
const primitive: fc.Arbitrary<Case> = fc.oneof(
  fc.tuple(side, fc.constantFrom('10.0.0.1', '192.168.0.1', 'fd00::1', 'ff02::1')).map(([where, address]) => ({
    text: where === '' ? `host ${address}` : `${where} ${address}`,
    holds: (facts: Facts) => isOneOf(facts.addresses, where, (value) => value === address),
  })),
  side.map((where) => ({
    text: `${where} net 10.0.0.0/30`,
    holds: (facts: Facts) => isOneOf(facts.addresses, where, (value) => /^10\.0\.0\.[0-3]$/.test(value)),
  })),
  side.map((where) => ({
    text: `${where} net fd00:0:0:1::/64`,
    holds: (facts: Facts) => isOneOf(facts.addresses, where, (value) => value.startsWith('fd00:0:0:1:')),
  })),
  fc
    .tuple(fc.constantFrom('', 'tcp', 'udp', 'sctp'), side, fc.constantFrom(22, 80, 65535))
    .map(([name, where, port]) => ({
      text: `${name} ${where} port ${port}`,
      holds: (facts: Facts) =>
        (name === '' || facts.protocol === { tcp: 6, udp: 17, sctp: 132 }[name]) &&
        isOneOf(facts.ports, where, (value) => value === port),
    })),
  side.map((where) => ({
    text: `${where} portrange 50-443`,
    holds: (facts: Facts) => isOneOf(facts.ports, where, (value) => value >= 50 && value <= 443),
  })),
  fc
    .constantFrom(['tcp', 6], ['udp', 17], ['sctp', 132], ['proto gre', 47], ['proto 58', 58])
    .map(([text, number]) => ({
      text: String(text),
      holds: (facts: Facts) => facts.protocol === number,
    })),
  fc.constantFrom(['icmp', 4, 1], ['icmp6', 6, 58]).map(([text, version, number]) => ({
    text: String(text),
    holds: (facts: Facts) => facts.version === version && facts.protocol === number,
  })),
  fc
    .constantFrom(['ip', 0x800], ['ip6', 0x86dd], ['arp', 0x806], ['ether proto lldp', 0x88cc])
    .map(([text, number]) => ({
      text: String(text),
      holds: (facts: Facts) => facts.etherType === number,
    })),
  fc
    .tuple(fc.constantFrom('host', 'src', 'dst'), fc.constantFrom('02:00:00:00:00:0a', 'ff:ff:ff:ff:ff:ff'))
    .map(([where, mac]) => ({
      text: `ether ${where} ${mac}`,
      holds: (facts: Facts) => isOneOf(facts.macs, where, (value) => value === mac),
    })),
  fc.constant({
    text: 'ether multicast',
    holds: (facts: Facts) => Number.parseInt(facts.macs[1].slice(0, 2), 16) % 2 === 1,
  }),
  fc.constantFrom(0, 10, 20).map((id) => ({ text: `vlan ${id}`, holds: (facts: Facts) => facts.vlan === id })),
  fc.constant({ text: 'vlan', holds: (facts: Facts) => facts.vlan !== null }),
);

const { expression } = fc.letrec<{ expression: Case; factor: Case }>((tie) => ({
  factor: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    { arbitrary: primitive, weight: 3 },
    {
      arbitrary: fc.tuple(fc.constantFrom('not ', '!'), tie('factor')).map(([word, inner]) => ({
        text: `${word}${inner.text}`,
        holds: (facts: Facts) => !inner.holds(facts),
      })),
      weight: 1,
    },
    {
      arbitrary: tie('expression').map((inner) => ({ text: `(${inner.text})`, holds: inner.holds })),
      weight: 1,
    },
  ),
  expression: fc
    .tuple(tie('factor'), fc.array(fc.tuple(fc.constantFrom('and', '&&', 'or', '||'), tie('factor')), { maxLength: 4 }))
    .map(([first, rest]) => ({
      text: [first.text, ...rest.map(([word, factor]) => `${word} ${factor.text}`)].join(' '),
      holds: (facts: Facts) =>
        rest.reduce(
          (so, [word, factor]) =>
            word === 'and' || word === '&&' ? so && factor.holds(facts) : so || factor.holds(facts),
          first.holds(facts),
        ),
    })),
}));

test('a compiled expression agrees with a naive reading of the same packets', () => {
  const random = randomNumbers(20);
  const samples = Array.from({ length: 250 }, () => {
    const frame = randomFrame(random);
    return { frame, packet: packetOf(frame), facts: factsOf(frame) };
  });
  let matched = 0;
  let tried = 0;
  fc.assert(
    fc.property(expression, ({ text, holds }) => {
      const compiled = new FilterExpression(text);
      for (const { frame, packet, facts } of samples) {
        const says = compiled.matches(packet);
        tried += 1;
        if (says) matched += 1;
        if (says !== holds(facts)) {
          throw new Error(`${text} says ${says} of ${Buffer.from(frame).toString('hex')}`);
        }
      }
    }),
    { numRuns: fuzzRounds(300) },
  );
  expect(matched).toBeGreaterThan(tried / 20);
  expect(matched).toBeLessThan((tried / 20) * 19);
});

test('the empty expression matches every packet', () => {
  expect(new FilterExpression('  ').matches(packetOf(new Uint8Array(3)))).toBe(true);
});

test('a VLAN is matched as a tag action will leave it', () => {
  const matches = (id: number, hex: string, action: number) =>
    new FilterExpression(`vlan ${id}`).matches(
      packetOf(Uint8Array.from(Buffer.from(`02000000000a02000000000b${hex}`, 'hex'))),
      action,
    );
  expect(matches(10, '8100000a080600000000', TagAction.KEEP)).toBe(true);
  expect(matches(10, '8100000a080600000000', TagAction.STRIP)).toBe(false);
  expect(matches(20, '88a8000a8100001408060000', TagAction.STRIP)).toBe(true);
  expect(matches(30, '08060000', TagAction.PUSH | 0x601e)).toBe(true);
  expect(matches(30, '8100000a08060000', TagAction.STRIP | TagAction.PUSH | 30)).toBe(true);
  expect(matches(0, '08060000', TagAction.PUSH | 0x6000)).toBe(true);
});

test('and and or have equal precedence, from the left, as in pcap-filter', () => {
  const arp = packetOf(Uint8Array.from(Buffer.from('ffffffffffff02000000000a08060001', 'hex')));
  expect(new FilterExpression('arp or ip and tcp').matches(arp)).toBe(false);
  expect(new FilterExpression('arp or (ip and tcp)').matches(arp)).toBe(true);
});

test.each([
  ['host', 'expected an address where the expression ends', 4],
  ['host 10.0.0.256', '"10.0.0.256" is neither an IPv4 nor an IPv6 address', 5],
  ['host 10.0.0.0/8', '"10.0.0.0/8" is a prefix: write "net 10.0.0.0/8"', 5],
  ['net 10.0.0.1/8', 'has bits set behind its prefix length', 4],
  ['net 10.0.0.0/33', 'the prefix length of an IPv4 address is 0 to 32', 4],
  ['port http', '"http" is not a port number from 0 to 65535', 5],
  ['portrange 20', 'a port range is written 1000-2000', 10],
  ['portrange 20-10', 'the lower port comes first', 10],
  ['tcp src 10.0.0.1', 'expected "port" or "portrange" behind "tcp src"', 8],
  ['vlan 4096', '"4096" is not a VLAN id from 0 to 4095', 5],
  ['ether host 02:00', '"02:00" is not a MAC address', 11],
  ['ether proto nothing', '"nothing" is neither the name nor the number of an EtherType', 12],
  ['proto 256', '"256" is neither the name nor the number of an IP protocol', 6],
  ['(arp', 'expected ")"', 4],
  ['arp)', 'a ")" without its "("', 3],
  ['arp ip', 'expected "and" or "or" before "ip"', 4],
  ['arp and', 'expected a condition where the expression ends', 7],
  ['len > 5', '"len" does not begin a condition', 0],
  [`${'('.repeat(80)}arp`, 'more than 64 levels of nesting', 64],
  ['!'.repeat(80), 'more than 64 levels of nesting', 64],
  ['arp or '.repeat(400), 'at most 2000 characters', 2000],
])('the mistake in "%.20s" is named with its place', (text, message, position) => {
  let thrown: unknown = null;
  try {
    new FilterExpression(text);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(FilterExpressionError);
  expect((thrown as FilterExpressionError).message).toContain(message);
  expect((thrown as FilterExpressionError).position).toBe(position);
});

test('any text either compiles or is refused with the error of expressions', () => {
  const word = fc.constantFrom(
    'host',
    'net',
    'port',
    'tcp',
    'src',
    '(',
    ')',
    'not',
    'and',
    '10.0.0.1',
    '80',
    '|',
    '"',
    '::',
  );
  const text = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc.array(word, { maxLength: 12 }).map((words) => words.join(' ')),
  );
  fc.assert(
    fc.property(text, (candidate) => {
      try {
        new FilterExpression(candidate);
      } catch (error) {
        expect(error).toBeInstanceOf(FilterExpressionError);
      }
    }),
    { numRuns: fuzzRounds(2000) },
  );
});
