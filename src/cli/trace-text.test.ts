/** What `millrace trace` prints for people. */
import { expect, test } from 'vitest';
import type { TraceResult } from '../daemon/client.ts';
import { traceText } from './trace-text.ts';

const KEPT = ['out through ', ', NIC 0; VLAN tag: keep as it is'];

/** @param piecesOf what is said of a port, see TraceStep.alike */
function flooded(count: number, piecesOf = (_n: number) => KEPT): TraceResult {
  const ports = Array.from({ length: count }, (_, i) => i + 2);
  return {
    port: 'p1',
    frame: ['ethernet 0..14'],
    steps: [
      { stage: 'learning', text: 'flooded in VLAN 0' },
      ...ports.map((n) => {
        const pieces = piecesOf(n);
        const alike = { stage: 'delivery', pieces };
        return { stage: `delivery p${n}`, text: pieces.join(`port p${n} (${n})`), port: `p${n}`, alike };
      }),
    ],
    destinations: ports.map((n) => `p${n}`),
    handedTo: [],
    drop: null,
  };
}

test('a flood to many ports is one line that names some and counts the others', () => {
  const lines = traceText(flooded(200)).trimEnd().split('\n');
  expect(lines.slice(2)).toEqual([
    'steps',
    '  learning  flooded in VLAN 0',
    '  delivery  out through 200 ports (p2, p3, p4, p5, p6, p7, p8, p9 and 192 more), NIC 0; VLAN tag: keep as it is',
    'sent to p2, p3, p4, p5, p6, p7, p8, p9 and 192 more',
  ]);
});

test('ports that are treated differently have lines of their own, and few ports a line each', () => {
  const lines = traceText(
    flooded(10, (n) => (n % 2 === 0 ? ['out through ', ', NIC 0; VLAN tag: strip'] : ['too long for port @'])),
  ).split('\n');
  expect(lines.slice(4, 6)).toEqual([
    '  delivery  out through 5 ports (p2, p4, p6, p8, p10), NIC 0; VLAN tag: strip',
    '  delivery  5 ports (p3, p5, p7, p9, p11): too long for port @',
  ]);
  expect(traceText(flooded(2))).toContain('  delivery p2  out through port p2 (2), NIC 0; VLAN tag: keep as it is\n');
});

test('the end says where the frame is sent, and what program gets it', () => {
  const end = (change: Partial<TraceResult>) =>
    traceText({ ...flooded(1), ...change })
      .trimEnd()
      .split('\n')
      .at(-1);
  expect(end({ handedTo: ['ovs-vswitchd'] })).toBe('sent to p2; handed to ovs-vswitchd');
  expect(end({ destinations: [], handedTo: ['ovs-vswitchd'] })).toBe('handed to ovs-vswitchd');
  expect(end({ destinations: [], drop: 'ovs:FLOW' })).toBe('dropped: ovs:FLOW');
});
