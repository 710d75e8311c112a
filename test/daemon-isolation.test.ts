/** The kernel's own stack stays off the ports of a switch, whatever others do to the programs that keep it off. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DaemonEvent } from '../src/daemon/client.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { until, World } from './daemon-world.ts';
import { detachProgram } from './support/detach-program.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
  // An address of the switch's own namespace, on a port: nobody there is to answer for it.
  world.address('sw', 'a', '10.9.0.9/24');
});
afterEach(() => world.end());

const said = () =>
  world
    .json<DaemonEvent[]>('events')
    .filter(({ subject, message }) => subject === 'a' && message.includes("keeps the kernel's own stack off"));

for (const offload of ['off', 'auto']) {
  test(`a program that keeps the stack off a port is back soon after somebody has taken it off, with offload ${offload}`, async () => {
    expect(world.pings('a', '10.9.0.9')).toBe(true);
    world.up(`ports: { a: {}, b: {} }\noffload: ${offload}\n`);
    expect(world.pings('a', '10.9.0.9', 1)).toBe(false);
    for (const place of ['ingress', 'egress'] as const) {
      const before = said().length;
      const namespace = NetworkNamespace.byName(world.middle);
      namespace.run(() => detachProgram('a', place, (name) => name === 'millrace_drop'));
      namespace.close();
      await until('it is back', () => said().length > before);
      expect(said().at(-1)?.message).toMatch(/was taken off by somebody, and is back/);
      expect(world.log()).toContain('was taken off by somebody, and is back');
      expect(world.pings('a', '10.9.0.9', 1)).toBe(false);
      expect(world.pings('a', '10.9.0.2')).toBe(true);
    }
    world.ok('down');
    expect(world.pings('a', '10.9.0.9')).toBe(true);
  });
}
