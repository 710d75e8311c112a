/**
 * Frames that a port refuses, with the unmodified ovs-vswitchd: each counts once, as sent or as dropped, whether the engine or a program
 * of the kernel had it, and the reason is told.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OvsLab, udp, until } from './ovs-lab.ts';
import { hasOpenVSwitch } from './ovs-world.ts';

describe.runIf(hasOpenVSwitch()).each(['off', 'require'] as const)('with offload %s', (offload) => {
  let lab: OvsLab;

  beforeAll(async () => {
    lab = new OvsLab();
    await lab.start(offload, ['a', 'b', 'c']);
  }, 60_000);
  afterAll(() => lab.close(), 60_000);

  /** Packets that a port has sent, and that it has not, as Open vSwitch tells it. */
  function sent(port: string): { sent: number; dropped: number } {
    const text = lab.ofctl('dump-ports', 'br0', port);
    const [, packets, dropped] = /tx pkts=(\d+), bytes=\d+, drop=(\d+)/.exec(text) ?? [];
    return { sent: Number(packets), dropped: Number(dropped) };
  }

  function link(port: string, state: 'up' | 'down'): void {
    lab.inside('ip', 'link', 'set', 'dev', port, state);
  }

  /** Wait until the daemon knows the link of a port. */
  async function known(port: string, state: string): Promise<void> {
    await until(`${port} is ${state}`, () => lab.world.ok('port', 'show', port).includes(`state        ${state}`));
  }

  async function send(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) await lab.host('a').send(udp({ from: 1, to: 2 }));
  }

  /** Send frames from a, all of which are counted at a port in the end. @returns what has been added there */
  async function counted(port: string, count: number): Promise<{ sent: number; dropped: number }> {
    const before = sent(port);
    const added = () => {
      const now = sent(port);
      return { sent: now.sent - before.sent, dropped: now.dropped - before.dropped };
    };
    await send(count);
    await until(`${count} frames are counted at ${port}`, () => added().sent + added().dropped >= count);
    return added();
  }

  const reasons = (port: string) => lab.world.ok('drops', port);

  test('a port that is down drops what it would send, and sends again when it is up', async () => {
    lab.rules('in_port=a,actions=output:b');
    expect(await counted('b', 20)).toEqual({ sent: 20, dropped: 0 });
    link('b', 'down');
    await known('b', 'down');
    expect(await counted('b', 20)).toEqual({ sent: 0, dropped: 20 });
    expect(reasons('b')).toMatch(/NIC_DOWN +20 /);
    link('b', 'up');
    await known('b', 'up');
    expect(await counted('b', 20)).toEqual({ sent: 20, dropped: 0 });
  }, 60_000);

  test("a bridge's own port that is down drops, and other ports get their copies", async () => {
    lab.rules('in_port=a,actions=output:LOCAL,output:c');
    // What the kernel carried counts a little later: the first frame is not to be among those that come.
    await counted('LOCAL', 1);
    await known('br0', 'down');
    expect(await counted('LOCAL', 20)).toEqual({ sent: 0, dropped: 20 });
    expect((await lab.arrived(20)).c?.length).toBeGreaterThanOrEqual(20);
    link('br0', 'up');
    await known('br0', 'up');
    expect(await counted('LOCAL', 20)).toEqual({ sent: 20, dropped: 0 });
    link('br0', 'down');
  }, 60_000);

  test('a port whose other end is down has no carrier, and drops as well', async () => {
    lab.rules('in_port=a,actions=output:b');
    await lab.arrived();
    lab.world.ok('status');
    lab.inside('ip', '-n', lab.world.namespace('b'), 'link', 'set', 'eth0', 'down');
    await known('b', 'down');
    expect(await counted('b', 10)).toEqual({ sent: 0, dropped: 10 });
  }, 60_000);
});
