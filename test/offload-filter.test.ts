/** Rules on IP and flows in the kernel together: what rules let pass is carried there, and counts; what they drop is dropped, and counts. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DropCount, OffloadInfo } from '../src/daemon/client.ts';
import { run, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
});
afterEach(() => world.end());

interface FilterStatus {
  readonly rules: readonly { readonly name: string; readonly packets: number; readonly bytes: number }[];
}

const show = () => world.json<OffloadInfo>('offload', 'show');
const rule = (name: string) =>
  world
    .json<{ status: FilterStatus }>('extension', 'show', 'filter')
    .status.rules.find((each) => each.name === name) ?? {
    packets: -1,
    bytes: -1,
  };
const drops = (port: string, reason: string) =>
  world.json<DropCount[]>('drops').find((drop) => drop.port === port && drop.reason === reason)?.packets ?? 0;

/** Start a server of iperf3 on b. It ends with the world. */
async function serve(port: number): Promise<void> {
  world.spawn('ip', ['netns', 'exec', world.namespace('b'), 'iperf3', '-s', '-p', String(port)]);
  await until(
    `something listens on ${port}`,
    () => run('ip', ['netns', 'exec', world.namespace('b'), 'ss', '-Hltn', `sport = ${port}`]).stdout !== '',
  );
}

const client = (port: number, ...more: string[]) =>
  run('ip', ['netns', 'exec', world.namespace('a'), 'iperf3', '-c', '10.7.0.2', '-p', String(port), ...more]);

const RULES = `
offload: require
extensions:
  - name: filter
    config:
      rules:
        - { name: web, action: count, protocol: tcp, destinationPort: 5001, direction: in }
        - { name: no-telnet, action: drop, protocol: tcp, destinationPort: 5002, direction: in }
  - learning
`;

test('flows by TCP ports run in the kernel, and what a rule denies never arrives', async () => {
  world.up(`ports: { a: {}, b: {} }\n${RULES}`);
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  await serve(5001);
  await serve(5002);
  expect(client(5001, '-n', '50M').code).toBe(0);

  const info = show();
  const a = info.ports.find(({ port }) => port === 'a');
  expect(a?.carriedBytes).toBeGreaterThan(45e6);
  const [table] = info.tables;
  expect(table.flowsInKernel).toBe(table.flows);
  expect(table.flowsInKernel).toBeGreaterThan(0);
  expect(table.masks.map(({ fields }) => fields).join('\n')).toMatch(
    /eth_type\(0x0800\),ipv4\(proto,frag\),tcp\(src,dst\)/,
  );
  // What went past the filter counts at its rule.
  expect(rule('web').bytes).toBeGreaterThan(45e6);
  expect(rule('no-telnet').packets).toBe(0);

  const before = a?.carriedPackets ?? 0;
  expect(client(5002, '-n', '1M', '--connect-timeout', '1500').code).not.toBe(0);
  const denied = rule('no-telnet').packets;
  expect(denied).toBeGreaterThanOrEqual(2);
  expect(drops('a', 'filter:NO_TELNET')).toBe(denied);
  // No flow has carried them.
  expect((show().ports.find(({ port }) => port === 'a')?.carriedPackets ?? 0) - before).toBeLessThan(10);

  // The denied port opens as soon as the rule goes.
  world.ok('extension', 'run', 'filter', 'replace', '{"rules": []}');
  expect(client(5002, '-n', '20M').code).toBe(0);
});
