/** A port that Millrace has taken over is out of the kernel's hands, and back in them afterwards, however it ended. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { loadDropProgram } from '../src/host/drop-program.ts';
import { isolate, openPacketSocket, type PacketSocketOptions, RouteClient } from '../src/host/index.ts';
import { attachTcx, TcxHook, tcxPrograms } from '../src/host/tcx.ts';
import { detachProgram } from './support/detach-program.ts';
import { collect, eventually, FrameSource, hex, isTestFrame, Lab, sleep, testFrame } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

const source = new FrameSource();

/** A host with a link to `port` in a namespace whose kernel has an address on it. */
function hostAndPort() {
  const [host, middle] = lab.hosts(2);
  lab.veth(middle, 'port', host, 'eth0');
  host.address('eth0', '10.0.0.1/24');
  middle.address('port', '10.0.0.254/24');
  middle.address('port', 'fd00::254/64');
  host.address('eth0', 'fd00::1/64');
  const open = (options: Partial<PacketSocketOptions> = {}) =>
    lab.own(middle.inside(() => openPacketSocket({ interfaceName: 'port', ...options })));
  return { host, middle, open };
}

describe.each([
  [true, 'tcx'],
  ['tc-filter', 'tc-filter'],
] as const)('isolate: %s', (option, means) => {
  test('the kernel neither answers nor sends on the port; both resume when it is released', async () => {
    const { host, middle, open } = hostAndPort();
    expect(host.ping('10.0.0.254')).toBe(true);
    const port = open({ isolate: option });
    expect(port.isolation).toBe(means);
    expect(port.warnings).toEqual([]);

    const tcpdump = host.start('tcpdump', ['-i', 'eth0', '-e', '-nn', '-l']);
    await tcpdump.printed(/listening/);
    // Neighbours are known: echo requests themselves get no answer. Then forget them: no ARP or ND answer either.
    expect(host.ping('10.0.0.254', { count: 1, timeoutMs: 300 })).toBe(false);
    host.ip('neigh flush all');
    expect(host.ping('10.0.0.254', { count: 1, timeoutMs: 300 })).toBe(false);
    expect(host.ping('fd00::254', { count: 1, timeoutMs: 300 })).toBe(false);
    // Nor does the kernel send from the port.
    middle.ip('neigh flush all');
    expect(middle.ping('10.0.0.1', { count: 1, timeoutMs: 300 })).toBe(false);
    await sleep(100);
    await tcpdump.stop();
    expect(tcpdump.output()).toMatch(/who-has 10\.0\.0\.254/);
    expect(tcpdump.output()).not.toContain(middle.macAddress('port').concat(' >'));

    port.close();
    expect(host.ping('10.0.0.254')).toBe(true);
    expect(host.ping('fd00::254')).toBe(true);
    expect(middle.run('tc', ['qdisc', 'show', 'dev', 'port'])).not.toContain('clsact');
  });

  test('what somebody has taken off is noticed and put back, and only that', () => {
    const { host, middle, open } = hostAndPort();
    const port = open({ isolate: option });
    expect(middle.inside(() => port.keepIsolated())).toBe(false);
    const takings =
      means === 'tcx'
        ? (['ingress', 'egress'] as const).map((place) => () => detachProgram('port', place))
        : ['ingress', 'egress', 'clsact'].map(
            (what) => () =>
              what === 'clsact'
                ? middle.run('tc', ['qdisc', 'del', 'dev', 'port', 'clsact'])
                : middle.run('tc', ['filter', 'del', 'dev', 'port', what]),
          );
    for (const take of takings) {
      middle.inside(take);
      expect(middle.inside(() => port.keepIsolated())).toBe(true);
      expect(middle.inside(() => port.keepIsolated())).toBe(false);
    }
    expect(host.ping('10.0.0.254', { count: 1, timeoutMs: 300 })).toBe(false);
    port.close();
    expect(host.ping('10.0.0.254')).toBe(true);
    expect(middle.run('tc', ['qdisc', 'show', 'dev', 'port'])).not.toContain('clsact');
  });

  test('nothing is put back on a device that has gone', () => {
    const { middle, open } = hostAndPort();
    const port = open({ isolate: option });
    middle.ip('link del port');
    expect(middle.inside(() => port.keepIsolated())).toBe(false);
  });

  test('the port itself still receives and sends everything', async () => {
    const { host, open } = hostAndPort();
    const port = open({ isolate: option });
    const far = lab.own(host.inside(() => openPacketSocket({ interfaceName: 'eth0' })));
    source.send(port, [testFrame(90, 1)]);
    expect(await collect(far, 1, isTestFrame)).toEqual([testFrame(90, 1)]);
    source.send(far, [testFrame(90, 2)]);
    expect(await collect(port, 1, isTestFrame)).toEqual([testFrame(90, 2)]);
  });
});

test("a port whose process is killed outright is the kernel's again", async () => {
  const { host, middle } = hostAndPort();
  const script = fileURLToPath(new URL('support/hold-port.ts', import.meta.url));
  const holder = middle.start(process.execPath, ['--import', 'jiti/register', script, 'port']);
  await holder.printed(/held tcx/, 20_000);
  expect(host.ping('10.0.0.254', { count: 1, timeoutMs: 300 })).toBe(false);
  // `ip netns exec` has become the holder: the same process.
  await holder.stop('SIGKILL');
  expect(host.ping('10.0.0.254')).toBe(true);
});

test('a filter that a killed process left behind is taken over, and removed with the port', () => {
  const { host, middle, open } = hostAndPort();
  middle.inside(() => {
    const client = new RouteClient();
    const { index } = client.link('port');
    client.close();
    // Not closed: what a killed process leaves.
    expect(isolate(index, 'port', false).means).toBe('tc-filter');
  });
  expect(host.ping('10.0.0.254', { count: 1, timeoutMs: 300 })).toBe(false);
  const port = open({ isolate: 'tc-filter' });
  expect(port.warnings).toEqual([]);
  port.close();
  expect(host.ping('10.0.0.254')).toBe(true);
  expect(middle.run('tc', ['qdisc', 'show', 'dev', 'port'])).not.toContain('clsact');
});

test("filters of others stay where they are, with a warning, and so does the user's clsact", () => {
  const { middle, open } = hostAndPort();
  middle.run('tc', ['qdisc', 'add', 'dev', 'port', 'clsact']);
  middle.run('tc', [
    'filter',
    'add',
    'dev',
    'port',
    'ingress',
    'pref',
    '7',
    'protocol',
    'all',
    'u32',
    'match',
    'u32',
    '0',
    '0',
  ]);
  const port = open({ isolate: 'tc-filter' });
  expect(port.warnings).toHaveLength(1);
  expect(port.warnings[0]).toMatch(/tc filters of others run on port/);
  port.close();
  expect(middle.run('tc', ['filter', 'show', 'dev', 'port', 'ingress'])).toContain('pref 7 u32');
  expect(middle.run('tc', ['filter', 'show', 'dev', 'port', 'egress'])).toBe('');
});

test('TCX programs of others keep their place before ours, with a warning', () => {
  const { middle, open } = hostAndPort();
  const ingress = () => tcxPrograms(interfaceIndex(), TcxHook.INGRESS);
  const interfaceIndex = () => Number(/^(\d+):/.exec(middle.ip('link show dev port'))?.[1]);
  middle.inside(() => {
    const program = lab.own(loadDropProgram());
    lab.own(attachTcx(program, interfaceIndex(), TcxHook.INGRESS));
    const [theirs] = ingress();
    const port = open();
    expect(ingress()).toHaveLength(2);
    expect(ingress()[0]).toBe(theirs);
    expect(port.warnings.join()).toContain(`ids ${theirs}`);
    port.close();
    expect(ingress()).toEqual([theirs]);
  });
});

test('where eBPF is not allowed the port works, with a warning that says what to do', () => {
  const script = fileURLToPath(new URL('support/hold-port.ts', import.meta.url));
  const shell = `ip link add port type veth peer name far && ip link set far up && exec ${process.execPath} --import jiti/register ${script} port --once`;
  const output = execFileSync('unshare', ['--user', '--map-root-user', '--net', 'sh', '-c', shell], {
    encoding: 'utf8',
  });
  expect(output).toContain('held none');
  expect(output).toMatch(/bpf failed with EPERM .*ip addr flush dev port/);
});

test('a port that was down is brought up without a word from the kernel, and put back down', async () => {
  const [host, middle] = lab.hosts(2);
  lab.veth(middle, 'port', host, 'eth0');
  middle.ip('link set port down');
  middle.run('sh', ['-c', 'echo 0 > /proc/sys/net/ipv6/conf/port/addr_gen_mode']);
  const far = lab.own(host.inside(() => openPacketSocket({ interfaceName: 'eth0', isolate: false })));
  const port = lab.own(middle.inside(() => openPacketSocket({ interfaceName: 'port' })));
  expect(port.state).toBe('up');
  await eventually('carrier', () => port.refresh() === 'up' && port.carrier);
  await sleep(300);
  const ours = hex(middle.macAddress('port').replaceAll(':', ''));
  await expect(collect(far, 1, (frame) => ours.every((byte, i) => frame[6 + i] === byte), 300)).rejects.toThrow(
    '0 of 1',
  );
  port.close();
  expect(middle.ip('link show dev port')).not.toMatch(/<[^>]*\bUP\b/);
});
