/** Trace tells what the core would do, and does nothing. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DropReason } from './index.ts';
import { Bench, frame, mac, passing } from './testing.ts';

function trace(bench: Bench, portId: number, bytes: Uint8Array) {
  const packet = bench.packet(bytes);
  const steps = bench.sw.trace(packet, portId);
  expect(packet.attachment).toBeNull();
  packet.release();
  return steps;
}

test('each step says what was looked at, up to the ports and their tag actions', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.sw.setPortProperty(1, { type: 'vlan', mode: 'access', vlanId: 5 }).result();
  bench.sw.setPortProperty(2, { type: 'vlan', mode: 'trunk' }).result();
  bench.sw.setPortProperty(3, { type: 'vlan', mode: 'access', vlanId: 6 }).result();
  const steps = trace(bench, 1, frame());
  expect(steps.map((step) => step.text)).toEqual([
    'in through port p1 (1), NIC 0, 60 bytes',
    'untagged; enters forwarding domain 5, priority 0',
    'group address or unknown destination: flooded within the forwarding domain',
    'not to port p3: The port is not a member of the VLAN.',
    'out through port p2 (2), NIC 0; VLAN tag: push VLAN 5',
  ]);
  expect(steps.at(-1)).toMatchObject({ stage: 'delivery', portId: 2, tag: 'push VLAN 5' });
});

test('what is said of ports that are treated alike is the same around their names', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3, 4]) bench.port(portId);
  bench.sw.setPortProperty(4, { type: 'vlan', mode: 'access', vlanId: 6 }).result();
  const around = trace(bench, 1, frame()).map(({ aroundPort }) => aroundPort);
  expect(around).toEqual([
    undefined,
    undefined,
    undefined,
    ['not to ', ': The port is not a member of the VLAN.'],
    ['out through ', ', NIC 0; VLAN tag: keep as it is'],
    ['out through ', ', NIC 0; VLAN tag: keep as it is'],
  ]);
});

test('a drop is named where it happens', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const last = (bytes: Uint8Array) => trace(bench, 1, bytes).at(-1);
  expect(last(new Uint8Array(5))).toMatchObject({ stage: 'ingress', drop: 'RUNT_FRAME' });
  expect(last(frame({ from: new Uint8Array(6) }))).toMatchObject({ stage: 'forwarding', drop: 'INVALID_SOURCE_MAC' });
  bench.sw.setPortProperty(1, { type: 'acl', rules: [{ direction: 'in', action: 'deny' }] }).result();
  expect(last(frame())).toMatchObject({ stage: 'policy', drop: 'ACL_DENIED', portId: 1 });
  expect(trace(bench, 9, frame())).toMatchObject([{ drop: 'UNKNOWN_PORT' }]);
});

test('an output to a port whose link is down is dropped there, and sent nowhere', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.sw.setNicLink(2, 0, false);
  const steps = trace(bench, 1, frame());
  expect(steps.filter(({ portId }) => portId === 2)).toMatchObject([{ stage: 'egress', drop: 'NIC_DOWN' }]);
  expect(steps.filter(({ stage }) => stage === 'delivery')).toMatchObject([{ portId: 3 }]);
});

test('extensions explain themselves, one that does not is named, and one that fails to is not disabled', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.enable('forward', 'forwarding', (handle) => ({
    ...passing(handle),
    explain: () => ({ lines: ['everything goes to 2'], destinations: [{ portId: 2, nicIndex: 0, flags: 6 }] }),
  }));
  bench.enable('filter', 'filtering', (handle) => ({
    ...passing(handle),
    explain: () => ({ lines: ['not to 2'], excluded: [{ portId: 2, reason: DropReason.EXTENSION_FILTER }] }),
  }));
  bench.enable('quiet', 'filtering', passing);
  bench.enable('broken', 'filtering', (handle) => ({
    ...passing(handle),
    explain: () => {
      throw new Error('no words');
    },
  }));
  const steps = trace(bench, 1, frame());
  const texts = steps.map((step) => `${step.stage}: ${step.text}`);
  expect(texts).toContain('broken: could not explain itself: no words');
  expect(texts).toContain('quiet: sees the packet and does not explain what it does');
  expect(texts).toContain('forward: everything goes to 2');
  expect(steps.at(-1)).toMatchObject({ drop: 'EXTENSION_FILTER', portId: 2 });
  expect(bench.sw.extensions().every((info) => info.enabled)).toBe(true);
});

test('for any frame, trace names the ports that then get it, and changes no counter', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3, 4]) bench.port(portId);
  bench.sw.setPortProperty(1, { type: 'vlan', mode: 'trunk', nativeVlanId: 5 }).result();
  bench.sw.setPortProperty(2, { type: 'vlan', mode: 'access', vlanId: 5 }).result();
  bench.sw.setPortProperty(2, { type: 'monitor', mode: 'source' }).result();
  bench.sw
    .setPortProperty(3, { type: 'acl', rules: [{ direction: 'out', action: 'deny', remoteMac: '02:00:00:00:00:03' }] })
    .result();
  bench.sw.setPortProperty(4, { type: 'monitor', mode: 'destination' }).result();
  const host = fc.integer({ min: 1, max: 4 });
  fc.assert(
    fc.property(host, host, host, fc.option(fc.constantFrom(0, 5, 6, 0xa005)), host, (port, from, to, tci, down) => {
      for (const portId of [1, 2, 3, 4]) bench.sw.setNicLink(portId, 0, portId !== down);
      const bytes = frame({ from: mac(from), to: mac(to), ...(tci === null ? {} : { tags: [tci] }) });
      const before = JSON.stringify([bench.sw.counters, bench.sw.ports(), bench.sw.drops(3)]);
      const steps = trace(bench, port, bytes);
      expect(JSON.stringify([bench.sw.counters, bench.sw.ports(), bench.sw.drops(3)])).toBe(before);
      const told = steps.flatMap((step) =>
        step.stage === 'delivery' && step.portId !== undefined ? [step.portId] : [],
      );
      bench.receive(port, bytes);
      expect(told.sort((a, b) => a - b)).toEqual(bench.reached());
    }),
    { numRuns: 300 },
  );
});
