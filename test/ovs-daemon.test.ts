/** Open vSwitch on the daemon, as a user starts it: its programs, its bridges, ports by their names, restarts, and the end. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { queryNetdev } from '../src/bpf/index.ts';
import type { PortInfo, TraceResult } from '../src/daemon/client.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { must, run, until, World } from './daemon-world.ts';
import { buildShim, hasOpenVSwitch } from './ovs-world.ts';

const here = test.runIf(hasOpenVSwitch());

let world: World;
const before = { ...process.env };

beforeAll(() => {
  if (!hasOpenVSwitch()) return;
  buildShim();
  world = new World({ outlives: true });
  for (const name of ['OVS_RUNDIR', 'OVS_DBDIR', 'OVS_LOGDIR']) process.env[name] = world.folder;
  world.host('a', '10.8.0.1/24');
  world.host('b', '10.8.0.2/24');
});

afterAll(async () => {
  if (world === undefined) return;
  if (existsSync(world.socket)) world.millrace('ovs', 'stop');
  await world.end();
  process.env = before;
});

const pseudoDevice = () => join(world.folder, 'nl.sock');
const start = () => world.ok('ovs', 'start', '--pseudo-device', pseudoDevice());
const inside = (...command: string[]) => must('ip', 'netns', 'exec', world.middle, ...command);
const vsctl = (...args: string[]) => inside('ovs-vsctl', '--timeout=20', ...args);
const appctl = (...args: string[]) => inside('ovs-appctl', '-t', 'ovs-vswitchd', ...args);

here('one command starts everything, and plain ovs-vsctl makes a bridge that forwards', () => {
  expect(start()).toMatch(
    /Open vSwitch runs on Millrace\. Started the daemon, made the database .*started ovs-vswitchd/,
  );
  vsctl('add-br', 'br0', '--', 'add-port', 'br0', 'a', '--', 'add-port', 'br0', 'b');
  expect(world.pings('a', '10.8.0.2', 3)).toBe(true);
  expect(start()).toContain('Everything was running.');
  must('ip', '-n', world.middle, 'link', 'set', 'br0', 'up');
  must('ip', '-n', world.middle, 'address', 'add', '10.8.0.9/24', 'dev', 'br0');
  expect(world.pings('b', '10.8.0.9')).toBe(true);
});

here('with --keep-flows traffic goes on while the programs are away, and while they start', async () => {
  await until('the bridge forwards', () => world.pings('a', '10.8.0.2', 3));
  const host = world.namespace('a');
  const ping = world.spawn('ip', ['netns', 'exec', host, 'ping', '-i', '0.05', '-c', '2000', '-W', '1', '10.8.0.2']);
  let seen = '';
  ping.stdout?.on('data', (text) => {
    seen += text;
  });
  const answers = () => seen.match(/ttl=/g)?.length ?? 0;
  const more = async () => {
    const before = answers();
    await until('pings are answered', () => answers() > before + 5);
  };
  await more();
  world.ok('ovs', 'stop', '--keep-flows');
  await more();
  start();
  await more();
  const ended = new Promise((resolve) => ping.once('close', resolve));
  ping.kill('SIGINT');
  await ended;
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(seen) ?? [];
  // The last one may be on its way when ping is ended.
  expect(Number(sent) - Number(received), seen.slice(-300)).toBeLessThanOrEqual(1);
  expect(vsctl('get', 'Open_vSwitch', '.', 'other_config')).toBe('{}\n');
});

here(
  'the ports of bridges are ports of the switch: listed, counted, captured, and not of the configuration',
  async () => {
    const ports = world.json<PortInfo[]>('port', 'list');
    expect(ports.map((port) => [port.name, port.kind, port.user]).sort()).toEqual([
      ['a', 'netdev', 'ovs'],
      ['b', 'netdev', 'ovs'],
      ['br0', 'tap', 'ovs'],
      ['ovs-system', 'tap', 'ovs'],
    ]);
    expect(ports.find((port) => port.name === 'a')?.counters.receivedPackets).toBeGreaterThan(2);
    expect(world.ok('config', 'show')).not.toContain('br0');
    const capture = world.start(['capture', 'a', '--json', '--count', '2', '--filter', 'ip and icmp']);
    let seen = '';
    capture.stdout?.on('data', (text) => {
      seen += text;
    });
    let ended: number | null = null;
    capture.once('close', (code) => {
      ended = code ?? 128;
    });
    // The first packets may come before the capture is there.
    await until('the capture has its packets', () => world.pings('a', '10.8.0.2', 2) && ended !== null, 60_000);
    expect([ended, seen]).toEqual([0, expect.stringContaining('10.8.0.')]);
  },
);

here(
  'a port of the configuration whose interface vanishes leaves its bridge, and comes back with the interface',
  async () => {
    world.host('d', '10.8.0.7/24');
    world.ok('port', 'add', 'fourth', '--device', 'd', '--ovs-name', 'vm-d');
    vsctl('add-port', 'br0', 'vm-d');
    expect(world.pings('d', '10.8.0.1', 3)).toBe(true);
    must('ip', '-n', world.middle, 'link', 'delete', 'dev', 'd');
    await until('the datapath has lost the port', () => !world.ok('ovs', 'dpctl', 'show').includes(': vm-d\n'));
    expect(world.json<PortInfo>('port', 'show', 'fourth')).toMatchObject({ state: 'missing', user: null });
    expect(world.pings('a', '10.8.0.2')).toBe(true);
    world.plug('d');
    world.address('d', 'eth0', '10.8.0.7/24');
    await until('the port is back', () => world.ok('ovs', 'dpctl', 'show').includes(': vm-d\n'));
    expect(world.pings('d', '10.8.0.1', 3)).toBe(true);
    vsctl('del-port', 'br0', 'vm-d');
    world.ok('port', 'del', 'fourth');
  },
);

here('trace says which megaflow a frame falls to, or that ovs-vswitchd would be asked', () => {
  const mac = (host: string) => {
    const text = must('ip', 'netns', 'exec', world.namespace(host), 'cat', '/sys/class/net/eth0/address');
    return text.trim().replaceAll(':', '');
  };
  const rest = `08004500005400014000400100000a0800010a080002080000000001${'00'.repeat(58)}`;
  expect(world.pings('a', '10.8.0.2', 2)).toBe(true);
  const known = world.json<TraceResult>('trace', 'a', `${mac('b')}${mac('a')}${rest}`);
  const texts = (trace: TraceResult) => trace.steps.map(({ text }) => text).join('\n');
  expect(texts(known)).toMatch(
    /falls to the flow ufid:[0-9a-f-]{36}, recirc_id\(0\),in_port\(\d+\),eth\(src=.*\nactions: \d+/,
  );
  expect(known).toMatchObject({ destinations: ['b'], handedTo: [], drop: null });
  const frame = `${mac('b')}020000000077${rest}`;
  const unknown = world.json<TraceResult>('trace', 'a', frame);
  expect(unknown).toMatchObject({ destinations: [], handedTo: ['ovs-vswitchd'], drop: null });
  expect(texts(unknown)).toContain('an upcall to ovs-vswitchd');
  expect(world.ok('trace', 'a', frame)).toMatch(/handed to ovs-vswitchd\n$/);
  // What it says to ask is understood.
  const [, datapath, match] = /ofproto\/trace (\S+) '(.*)'/.exec(texts(unknown)) ?? [];
  expect(appctl('ofproto/trace', datapath, match)).toContain('Datapath actions:');
});

here('a port that Open vSwitch added takes policies, and keeps them when it is added again', () => {
  const set = world.ok('port', 'set', 'a', 'acl=[{action: deny, direction: in, remoteIp: 10.8.0.2/32}]');
  expect(set).toContain('The extension ovs added it');
  expect(world.ok('port', 'show', 'a')).toMatch(/added by +the extension ovs/);
  expect(world.pings('a', '10.8.0.2', 1)).toBe(false);
  vsctl('del-port', 'br0', 'a', '--', 'add-port', 'br0', 'a');
  expect(world.pings('a', '10.8.0.2', 1)).toBe(false);
  world.ok('port', 'set', 'a', 'acl=');
  expect(world.pings('a', '10.8.0.2', 3)).toBe(true);
  expect(world.ok('config', 'show')).not.toContain('acl');

  const refused = (...args: string[]) => world.millrace('port', ...args).stderr;
  expect(refused('set', 'a', 'device=b')).toContain('was added by the extension ovs, which decides about device');
  expect(refused('set', 'a', '--ovs-name', 'x')).toContain('which decides about ovsName');
  expect(refused('add', 'a')).toContain('which the extension ovs has added');
  expect(refused('del', 'a')).toContain('ovs-vsctl del-port a');
  expect(refused('set', 'nowhere', 'acl=')).toContain('there is no port "nowhere"');
});

here('offload=off is what says why flows of a port are not in the kernel', async () => {
  world.ok('port', 'set', 'a', 'offload=off');
  const why = 'is not offloaded: its configuration says offload=off';
  await until('flows of the port say why', () => {
    world.pings('a', '10.8.0.2', 1);
    const text = world.ok('offload', 'show', '--flows');
    return new RegExp(`port \\d+ ${why}`).test(text) && new RegExp(`output to port \\d+, which ${why}`).test(text);
  });
  expect(world.millrace('offload', 'dump', 'a').stderr).toContain('its configuration says offload=off');
  world.ok('port', 'set', 'a', 'offload=');
});

here('dpctl without Open vSwitch shows what ovs-dpctl shows', () => {
  world.pings('a', '10.8.0.2', 3);
  const stable = (text: string) =>
    text
      .split('\n')
      .filter((line) => line.includes('eth_type(0x0800)'))
      .map((line) => line.replaceAll(/ (packets|bytes|used):[^,]+,/g, ''))
      .sort();
  const ours = world.ok('ovs', 'dpctl', 'dump-flows');
  expect(stable(ours).length).toBeGreaterThan(0);
  expect(stable(ours)).toEqual(stable(world.ok('ovs', 'exec', '--', 'ovs-dpctl', 'dump-flows')));
  expect(world.ok('ovs', 'dpctl', 'dump-dps')).toBe('system@ovs-system\n');
  expect(world.ok('ovs', 'dpctl', 'show')).toMatch(/port \d+: a\n/);
  expect(world.ok('ovs', 'dpctl', 'dump-ports')).toMatch(/br0 \(internal\)\n {4}RX packets:\d+/);
});

here('flows are added, read, changed and deleted in the syntax of ovs-dpctl; what is wrong is said', () => {
  const flow = 'in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.1.0.0/255.255.0.0)';
  world.ok('ovs', 'dpctl', 'add-dp', 'dp9');
  world.ok('ovs', 'dpctl', 'add-flow', 'dp9', flow, 'push_vlan(vid=5,pcp=0),2');
  expect(world.ok('ovs', 'dpctl', 'get-flow', 'dp9', flow)).toContain('actions:push_vlan(vid=5,pcp=0),2');
  world.ok('ovs', 'dpctl', 'mod-flow', 'dp9', flow, '3');
  expect(world.json<{ actions: string }[]>('ovs', 'dpctl', 'dump-flows', 'dp9')).toMatchObject([{ actions: '3' }]);
  expect(world.millrace('ovs', 'dpctl', 'add-flow', 'dp9', flow, '3').stderr).toContain('there already');
  expect(world.millrace('ovs', 'dpctl', 'add-flow', 'dp9', 'eth(,', '3').code).not.toBe(0);
  expect(
    world.millrace('ovs', 'dpctl', 'add-flow', 'dp9', 'eth(),eth_type(0x1234)', 'pop_mpls(eth_type=0x800)').stderr,
  ).toContain('not valid');
  expect(world.millrace('ovs', 'dpctl', 'show', 'dp8').stderr).toContain('there is no datapath dp8');
  expect(world.ok('ovs', 'dpctl', 'del-flows', 'dp9')).toBe('Deleted 1 flow.\n');
  world.ok('ovs', 'dpctl', 'del-dp', 'dp9');
});

here('a port of the configuration is known to Open vSwitch by its OVS-port-name', () => {
  world.host('c', '10.8.0.3/24');
  world.ok('port', 'add', 'web', '--device', 'c', '--ovs-name', 'web0');
  expect(must('ip', '-n', world.middle, 'link', 'show', 'c')).toContain('altname web0');
  vsctl('add-port', 'br0', 'web0');
  expect(world.pings('a', '10.8.0.3')).toBe(true);
  expect(world.json<PortInfo[]>('port', 'list').find((port) => port.name === 'web')?.user).toBe('ovs');
  vsctl('del-port', 'br0', 'web0');
  expect(world.ok('port', 'show', 'web')).toContain('ovsName: web0');
  expect(world.pings('a', '10.8.0.3', 1)).toBe(false);
  world.ok('port', 'set', 'web', '--ovs-name', '');
  expect(must('ip', '-n', world.middle, 'link', 'show', 'c')).not.toContain('altname');
  expect(world.millrace('port', 'set', 'web', '--ovs-name', 'b').stderr).toContain('there is an interface b already');
  world.ok('port', 'del', 'web');
});

/** Of ovs-vswitchd, in hundredths of a second. */
function processorTicks(): number {
  const vswitchd = readFileSync(join(world.folder, 'ovs-vswitchd.pid'), 'utf8').trim();
  const fields = readFileSync(`/proc/${vswitchd}/stat`, 'utf8').split(' ');
  return Number(fields[13]) + Number(fields[14]);
}

here('without the daemon programs fail cleanly, and start brings the same bridges back', async () => {
  const { pid } = world.json<{ pid: number }>('status');
  process.kill(pid, 'SIGKILL');
  // ovs-vswitchd tries again and again; it must not take the machine for that.
  await new Promise((resume) => setTimeout(resume, 300));
  const ticks = processorTicks();
  await new Promise((resume) => setTimeout(resume, 1000));
  expect(processorTicks() - ticks).toBeLessThan(30);
  const orphan = run('ip', [
    ...['netns', 'exec', world.middle, 'env', `LD_PRELOAD=${buildShim()}`, `MILLRACE_OVS_SOCKET=${pseudoDevice()}`],
    ...['ovs-dpctl', 'show'],
  ]);
  expect(orphan.code).toBe(1);
  expect(orphan.stderr).not.toBe('');
  expect(vsctl('list-br')).toBe('br0\n');
  expect(start()).toContain('Bridges: br0');
  await until('the bridge forwards again', () => world.pings('a', '10.8.0.2', 3), 60_000);
});

here('ovs-vswitchd that runs on something else is left alone, and said', () => {
  const outcome = world.millrace('ovs', 'start', '--pseudo-device', join(world.folder, 'other.sock'));
  expect(outcome.code).toBe(4);
  expect(outcome.stderr).toMatch(/ovs-vswitchd \(pid \d+\) runs on another Millrace/);
});

/** Names of the programs on an interface. */
function programsOf(netdev: string): string[] {
  const middle = NetworkNamespace.byName(world.middle);
  try {
    const { xdp, tcx } = middle.run(() => queryNetdev(netdev));
    const all = [xdp, ...(tcx?.ingress.programs ?? []), ...(tcx?.egress.programs ?? [])];
    return all.flatMap((program) => (program === undefined ? [] : [program.name]));
  } finally {
    middle.close();
  }
}

here(
  'right after the daemon was killed, stop ends the programs and says what goes on; down finds all that it left',
  async () => {
    const journal = () => {
      const { ports } = JSON.parse(readFileSync(`${world.socket}.lock`, 'utf8').split('\n')[0]) as {
        ports: { name: string }[];
      };
      return ports.map(({ name }) => name).sort();
    };
    await until('the journal names ports of Open vSwitch', () => journal().includes('a') && journal().includes('br0'));
    process.kill(world.pid(), 'SIGKILL');
    expect(world.ok('ovs', 'stop', '--keep-flows')).toBe(
      'Ended ovs-vswitchd and ovsdb-server.\nNo daemon serves the datapath: what was left in the kernel goes on until the next `millrace ovs start` or `millrace up`; `millrace down` removes it.\n',
    );
    expect(programsOf('a').length).toBeGreaterThan(0);
    expect(world.ok('ovs', 'stop')).toBe('Nothing was running.\n');
    world.ok('down');
    expect([...programsOf('a'), ...programsOf('b')]).toEqual([]);
    expect(start()).toContain('Bridges: br0');
    await until('the bridge forwards again', () => world.pings('a', '10.8.0.2', 3), 60_000);
  },
);

here('stop ends the programs and takes their ports away; down leaves the machine as it was', () => {
  expect(appctl('version')).toContain('ovs-vswitchd');
  expect(world.ok('ovs', 'stop')).toBe('Ended ovs-vswitchd and ovsdb-server.\n');
  expect(world.json<PortInfo[]>('port', 'list').map((port) => port.name)).toEqual([]);
  world.ok('down');
  const links = must('ip', '-n', world.middle, '-o', 'link').trim().split('\n');
  expect(links.map((line) => line.split(':')[1].trim().split('@')[0]).sort()).toEqual(['a', 'b', 'c', 'd', 'lo']);
});

here('a pseudo device that cannot be had is said, and does not stay in the way of another', () => {
  const socket = join(world.file('no-folder', ''), 'nl.sock');
  const file = world.file('wrong.yaml', `extensions: [{ name: ovs, config: { socket: ${socket} } }]\n`);
  const refused = world.millrace('ovs', 'start', '-f', file);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain(`cannot listen on ${socket}`);
  expect(start()).toContain('Open vSwitch runs on Millrace.');
  expect(world.json<{ socket: string }>('ovs', 'status').socket).toBe(pseudoDevice());
  world.ok('ovs', 'stop');
  world.ok('down');
});
