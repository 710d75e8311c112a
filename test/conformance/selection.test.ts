import { expect, test } from 'vitest';
import { parseRange, select } from './selection.ts';
import { parseList } from './suite.ts';

const LISTED = `openvswitch 3.1.0 test suite test groups:

 NUM: FILE-NAME:LINE     TEST-GROUP-NAME
      KEYWORDS

   1: system-traffic.at:3 datapath - ping between two ports
  51: system-traffic.at:2235 conntrack - controller
  52: system-traffic.at:2290 conntrack - ICMP related - more
 169: system-ipsec.at:157 IPsec -- Libreswan (ipv4, geneve)
      ipsec libreswan ipv4 geneve psk
 170: system-x.at:1      untitled
`;
const tests = parseList(LISTED);
const numbers = (ranges: string[], words: string[]) =>
  select(tests, { ranges: ranges.map(parseRange), words }, (one) => one.number).map((one) => one.number);

test('a driver lists numbers, groups and names', () => {
  expect(tests).toEqual([
    { number: 1, group: 'datapath', name: 'ping between two ports' },
    { number: 51, group: 'conntrack', name: 'controller' },
    { number: 52, group: 'conntrack', name: 'ICMP related - more' },
    { number: 169, group: 'IPsec', name: 'Libreswan (ipv4, geneve)' },
    { number: 170, group: 'other', name: 'untitled' },
  ]);
});

test('tests are chosen by numbers and ranges, by words, or by both', () => {
  expect(numbers([], [])).toEqual([1, 51, 52, 169, 170]);
  expect(numbers(['1', '50-60'], [])).toEqual([1, 51, 52]);
  expect(numbers([], ['CONNTRACK', 'libreswan'])).toEqual([51, 52, 169]);
  expect(numbers(['52-200'], ['conntrack'])).toEqual([52]);
});

test('what no test has is refused', () => {
  expect(() => numbers(['2-50'], [])).toThrow('no test from 2 to 50');
  expect(() => numbers([], ['conntrakc'])).toThrow('"conntrakc"');
  for (const text of ['0', '5-4', '-3', '1,2', 'x', '1-', '']) expect(() => parseRange(text)).toThrow(RangeError);
});
