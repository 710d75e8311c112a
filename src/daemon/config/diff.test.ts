import fc from 'fast-check';
import { expect, test } from 'vitest';
import { applySteps } from '../control/apply.ts';
import { diffConfigs, type Operation } from './diff.ts';
import { evolve } from './evolve.ts';
import type { Config, Extension, Port } from './model.ts';
import { parseConfig } from './parse.ts';

const config = (text: string) => parseConfig(text, 'millrace.yaml');

const port: fc.Arbitrary<Port> = fc.oneof(
  fc.record({ kind: fc.constant('memory' as const), device: fc.constant(''), dhcpGuard: fc.boolean() }),
  fc.record({ kind: fc.constant('netdev' as const), device: fc.constantFrom('e0', 'e1'), wait: fc.boolean() }),
);
const names = ['a', 'b', 'c', 'd'] as const;
const extension: fc.Arbitrary<Extension> = fc.record({
  name: fc.constantFrom(...names),
  module: fc.constantFrom(null, '/m.ts'),
  enabled: fc.boolean(),
  config: fc.constantFrom({}, { x: 1 }),
});
const anyConfig: fc.Arbitrary<Config> = fc
  .record({
    ports: fc.uniqueArray(fc.tuple(fc.constantFrom(...names), port), { selector: ([name]) => name }),
    extensions: fc.uniqueArray(extension, { selector: ({ name }) => name }),
    ageingSeconds: fc.nat(2),
    connections: fc.constantFrom(100, 200),
    offload: fc.constantFrom('auto', 'off', 'require'),
    addresses: fc.uniqueArray(fc.constantFrom('02:00:00:00:00:01', '02:00:00:00:00:02')),
  })
  .map(({ ports, extensions, ageingSeconds, addresses, offload, connections }) => ({
    offload,
    connections: { maximum: connections },
    daemon: { socket: null, logLevel: null, watchdogSeconds: 2 },
    ports: new Map(ports),
    extensions,
    fdb: {
      ageingSeconds,
      maximum: 100,
      static: ports.length === 0 ? [] : addresses.map((mac) => ({ mac, vlan: 0, port: ports[0][0] })),
    },
  }));

/** Order means nothing among ports and static entries. */
function comparable(value: Config) {
  return {
    ports: Object.fromEntries(value.ports),
    extensions: value.extensions,
    offload: value.offload,
    ageingSeconds: value.fdb.ageingSeconds,
    connections: value.connections.maximum,
    static: [...value.fdb.static].sort((a, b) => a.mac.localeCompare(b.mac)),
  };
}

test('the steps from one configuration lead to the other, and undone in reverse lead back', () => {
  fc.assert(
    fc.property(anyConfig, anyConfig, (from, to) => {
      const steps = diffConfigs(from, to);
      let now = from;
      for (const step of steps) now = evolve(now, step.operation);
      expect(comparable(now)).toEqual(comparable(to));
      for (const step of [...steps].reverse()) now = evolve(now, step.undo);
      expect(comparable(now)).toEqual(comparable(from));
    }),
  );
});

test('a configuration differs from itself in nothing', () => {
  fc.assert(fc.property(anyConfig, (value) => diffConfigs(value, value).length === 0));
});

test('static entries never name a port that is not there at that moment', () => {
  fc.assert(
    fc.property(anyConfig, anyConfig, (from, to) => {
      let now = from;
      for (const step of diffConfigs(from, to)) {
        now = evolve(now, step.operation);
        for (const entry of now.fdb.static) expect(now.ports.has(entry.port)).toBe(true);
      }
    }),
  );
});

test('a policy is changed in place, a device means a new port', () => {
  const from = config('ports: { a: { kind: netdev }, b: { kind: netdev } }');
  const to = config('ports: { a: { kind: netdev, dhcpGuard: true }, b: { kind: netdev, device: eth1 } }');
  expect(diffConfigs(from, to).map((step) => step.text)).toEqual([
    'remove port b, to make it anew (device)',
    'change port a (dhcpGuard)',
    'add port b (netdev eth1)',
  ]);
});

test('when a step fails, those before it are undone in reverse order and the failure names it', async () => {
  const steps = diffConfigs(
    config('ports: {}'),
    config('ports: { a: { kind: memory }, b: { kind: memory }, c: { kind: memory } }'),
  );
  const seen: Operation[] = [];
  const operate = async (operation: Operation) => {
    if (operation.op === 'port-add' && operation.name === 'c') throw new Error('no room');
    seen.push(operation);
  };
  await expect(applySteps(steps, operate)).rejects.toThrow(
    'cannot add port c (memory): no room; what was applied before it has been taken back',
  );
  expect(seen.map((operation) => `${operation.op} ${'name' in operation ? operation.name : ''}`)).toEqual([
    'port-add a',
    'port-add b',
    'port-del b',
    'port-del a',
  ]);
});

test('what cannot be taken back is said', async () => {
  const steps = diffConfigs(config('ports: {}'), config('ports: { a: { kind: memory }, b: { kind: memory } }'));
  const operate = async (operation: Operation) => {
    if (operation.op === 'port-del' || (operation.op === 'port-add' && operation.name === 'b'))
      throw new Error('stuck');
  };
  await expect(applySteps(steps, operate)).rejects.toThrow(
    /taking back what was applied before it failed too: add port a/,
  );
});

test('who is behind a port, and what may be there, is changed without making the port anew', () => {
  const operations = (from: string, to: string) =>
    diffConfigs(config(`ports: { p: { ${from} } }`), config(`ports: { p: { ${to} } }`)).map(
      ({ operation }) => operation.op,
    );
  expect(operations('addressBinding: { learn: [nd] }', 'addressBinding: { learn: [nd], limit: 9 }')).toEqual([
    'port-set',
  ]);
  expect(operations('', 'mac: learn')).toEqual(['port-set']);
  // The address of a TAP is that of its device.
  expect(operations('kind: tap', 'kind: tap, mac: "02:00:00:00:00:01"')).toEqual(['port-del', 'port-add']);
});
