/**
 * Tunnels of the unmodified ovs-vswitchd: the other end is Linux's own vxlan device. The tunnel's address is on a bridge's own port, as is usual with Hyper-V. With programs in the kernel and without.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { must, run } from './daemon-world.ts';
import { OvsLab, until } from './ovs-lab.ts';
import { hasOpenVSwitch } from './ovs-world.ts';

const hasVxlan = (): boolean => {
  const added = run('ip', ['link', 'add', 'mrvxprobe', 'type', 'vxlan', 'id', '1', 'dstport', '4789']);
  run('ip', ['link', 'del', 'mrvxprobe']);
  return added.code === 0;
};

describe.runIf(hasOpenVSwitch() && hasVxlan()).each(['off', 'require'] as const)('with offload %s', (offload) => {
  let lab: OvsLab;
  let inner: string;
  let remote: string;

  beforeAll(async () => {
    lab = new OvsLab(true);
    await lab.start(offload, []);
    inner = lab.world.host('inner', '10.1.1.1/24', 'fd01::1/64');
    remote = lab.world.host('wire', '172.31.1.2/24', 'fd02::2/64');
    must('ip', '-n', inner, 'link', 'set', 'eth0', 'mtu', '1430');
    lab.vsctl('add-port', 'br0', 'inner', '--', 'add-br', 'brp', '--', 'add-port', 'brp', 'wire');
    for (const bridge of ['br0', 'brp']) lab.inside('ip', 'link', 'set', bridge, 'up');
    lab.inside('ip', 'addr', 'add', '172.31.1.1/24', 'dev', 'brp');
    lab.inside('ip', 'addr', 'add', 'fd02::1/64', 'dev', 'brp', 'nodad');
    const device = (name: string, id: string, from: string, to: string, ...more: string[]) =>
      must(
        'ip',
        '-n',
        remote,
        'link',
        'add',
        name,
        'type',
        'vxlan',
        'id',
        id,
        'dstport',
        '4789',
        'local',
        from,
        'remote',
        to,
        'dev',
        'eth0',
        ...more,
      );
    device('vx4', '7', '172.31.1.2', '172.31.1.1');
    device('vx6', '8', 'fd02::2', 'fd02::1', 'udp6zerocsumrx');
    for (const name of ['vx4', 'vx6']) must('ip', '-n', remote, 'link', 'set', name, 'mtu', '1430', 'up');
  }, 90_000);
  afterAll(() => lab.close(), 60_000);

  const tunnel = (...options: string[]) =>
    lab.vsctl(
      '--may-exist',
      'add-port',
      'br0',
      'v0',
      '--',
      'set',
      'interface',
      'v0',
      'type=vxlan',
      ...options.map((option) => `options:${option}`),
    );

  test('hosts reach each other through it, by small packets and long ones, over IPv4 and IPv6 inside', async () => {
    tunnel('remote_ip=172.31.1.2', 'key=7');
    must('ip', '-n', remote, 'addr', 'add', '10.1.1.2/24', 'dev', 'vx4');
    must('ip', '-n', remote, 'addr', 'add', 'fd01::2/64', 'dev', 'vx4', 'nodad');
    await until('the tunnel carries', () => lab.world.pings('inner', '10.1.1.2'), 20_000);
    expect(lab.world.pings('inner', 'fd01::2')).toBe(true);
    // Longer than the MTU: fragments inside, each in a packet of its own.
    const long = run('ip', ['netns', 'exec', inner, 'ping', '-c', '2', '-w', '10', '-s', '4000', '10.1.1.2']);
    expect(long.stdout).toMatch(/ [12] received/);
    const ports = JSON.parse(lab.world.ok('extension', 'show', 'ovs', '--json')) as unknown;
    expect(JSON.stringify(ports)).toMatch(/"type":"vxlan","udpPort":4789,"receivedPackets":[1-9]/);
  }, 60_000);

  test('many bytes go through it both ways whole', async () => {
    for (const [from, to, at] of [
      [inner, remote, '10.1.1.2'],
      [remote, inner, '10.1.1.1'],
    ] as const) {
      const server = lab.world.spawn('ip', ['netns', 'exec', to, 'iperf3', '-s', '-1', '-B', at]);
      await until(
        'the receiver listens',
        () => run('ip', ['netns', 'exec', to, 'ss', '-Hltn', 'sport = :5201']).stdout !== '',
      );
      const sent = must('ip', 'netns', 'exec', from, 'iperf3', '-c', at, '-n', '8M', '-J');
      const { end } = JSON.parse(sent) as { end: { sum_received: { bytes: number } } };
      expect(end.sum_received.bytes).toBeGreaterThan(1_000_000);
      await new Promise((resolve) => (server.exitCode === null ? server.once('exit', resolve) : resolve(null)));
    }
  }, 60_000);

  test('trace says by where its packets leave', () => {
    const macOf = (namespace: string, device: string) => {
      const shown = must('ip', '-n', namespace, '-j', 'link', 'show', device);
      return (JSON.parse(shown) as { address: string }[])[0].address.replaceAll(':', '');
    };
    lab.world.pings('inner', '10.1.1.2');
    const datagram = '4500001c000040004011247f0a0101010a01010203e8003500080000';
    const frame = `${macOf(remote, 'vx4')}${macOf(inner, 'eth0')}0800${datagram}`;
    const said = lab.world.ok('trace', 'inner', frame);
    expect(said).toMatch(/output to vxlan_sys_4789 .*, a tunnel: its packets leave by brp, 1500 bytes at most/);
    expect(said).toMatch(/goes to a tunnel/);
  });

  test('a change of the remote counts for the next packet, over IPv6 outside', async () => {
    tunnel('remote_ip=fd02::2', 'key=8');
    must('ip', '-n', remote, 'addr', 'flush', 'dev', 'vx4');
    must('ip', '-n', remote, 'addr', 'add', '10.1.1.2/24', 'dev', 'vx6');
    must('ip', '-n', inner, 'neigh', 'flush', 'dev', 'eth0');
    await until('the other tunnel carries', () => lab.world.pings('inner', '10.1.1.2'), 20_000);
  }, 40_000);

  test('where there is no way to the other end, packets are dropped for a reason with a name', async () => {
    tunnel('remote_ip=192.0.2.7', 'key=7');
    await until(
      'a drop is told',
      () => {
        lab.world.pings('inner', '10.1.1.2', 1);
        return /TUNNEL_NO_ROUTE/.test(lab.world.ok('drops'));
      },
      30_000,
    );
  }, 60_000);
});
