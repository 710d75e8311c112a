/** Connections in words. */
import { expect, test } from 'vitest';
import type { ConnectionInfo } from '../daemon/client.ts';
import { changeText, connectionDetails, connectionLine } from './connection-text.ts';

const plain: ConnectionInfo = {
  id: 7,
  zone: 0,
  version: 4,
  protocol: 'udp',
  state: null,
  flags: ['replied'],
  original: { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 1000, destinationPort: 53 },
  reply: { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 53, destinationPort: 1000 },
  mark: 0,
  label: '0'.repeat(32),
  helper: null,
  expiresInSeconds: 119,
  parent: null,
};

const special: ConnectionInfo = {
  ...plain,
  zone: 5,
  version: 6,
  protocol: 'tcp',
  state: 'ESTABLISHED',
  flags: ['expected', 'replied', 'assured', 'destination-nat'],
  original: { source: 'fd00::1', destination: 'fd00::2', sourcePort: 1000, destinationPort: 80 },
  reply: { source: 'fd00::3', destination: 'fd00::1', sourcePort: 8080, destinationPort: 1000 },
  mark: 42,
  label: '0'.repeat(28).concat('12ab'),
  helper: 'ftp',
  expiresInSeconds: 432_000,
  parent: 3,
};

test('a line says only what is not as usual', () => {
  expect(connectionLine(plain)).toBe('udp     -            10.0.0.1:1000 > 10.0.0.2:53  expires in 1 min 59 s  id 7');
  expect(connectionLine({ ...plain, flags: [] })).toContain('  unreplied  ');
  expect(connectionLine(special)).toBe(
    'tcp     ESTABLISHED  [fd00::1]:1000 > [fd00::2]:80  back [fd00::3]:8080 > [fd00::1]:1000  zone 5  assured  expected  mark 0x2a  label 0x12ab  helper ftp  expires in 5 d 0 h  id 7',
  );
});

test('ICMP has a type, a code and an identifier', () => {
  const original = { source: '10.0.0.1', destination: '10.0.0.2', identifier: 77, type: 8, code: 0 };
  const line = connectionLine({ ...plain, protocol: 'icmp', original });
  expect(line).toContain('icmp    -            10.0.0.1 > 10.0.0.2 type 8 code 0 id 77  ');
});

test('a change says what has happened first', () => {
  const { expiresInSeconds: _, parent: __, ...connection } = plain;
  expect(changeText({ timeMs: 0, type: 'ended', what: ['expired'], connection })).toMatch(/^ended: expired {12}udp /);
  expect(changeText({ timeMs: 0, type: 'new', what: [], connection })).toMatch(/^new {23}udp /);
});

test('the details tell all', () => {
  expect(Object.fromEntries(connectionDetails(special))).toEqual({
    id: '7',
    protocol: 'tcp, IPv6',
    state: 'ESTABLISHED',
    zone: '5',
    original: '[fd00::1]:1000 > [fd00::2]:80',
    reply: '[fd00::3]:8080 > [fd00::1]:1000',
    flags: 'expected, replied, assured, destination-nat',
    mark: '0x2a',
    label: '0x12ab',
    helper: 'ftp',
    'announced by': 'connection 3',
    'expires in': '5 d 0 h',
  });
});
