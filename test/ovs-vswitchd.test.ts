/** Scenarios with the unmodified ovs-vswitchd on a Millrace datapath: the first bridge, forwarding, flows, restarts, ends. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { hasOpenVSwitch, OvsWorld, until } from './ovs-world.ts';
import { pingArguments } from './support/ping.ts';

const here = test.runIf(hasOpenVSwitch());

/** What is said of devices that a test takes away, or moves to where ovs-vswitchd does not see them: the kernel's datapath gives the same cause. */
const OF_THE_LOST_DEVICE = /\bvc\b|\bint0: removing policing failed: No such device/;

/** Warnings that say something of the machine and nothing of the datapath. */
const OF_THE_MACHINE = /netdev_max_backlog|ethtool|linux-sock|reconnect|timeval|poll_loop|dpdk|tc_|Dropped \d+ log/;

let world: OvsWorld;
let hosts: [string, string];

beforeAll(async () => {
  if (!hasOpenVSwitch()) return;
  world = new OvsWorld();
  hosts = [world.host('va', '10.9.0.1/24'), world.host('vb', '10.9.0.2/24')];
  await world.startDatapath();
  await world.startDatabase();
  await world.startVswitchd();
  world.vsctl('add-br', 'br0', '--', 'add-port', 'br0', 'va', '--', 'add-port', 'br0', 'vb');
});

afterAll(async () => {
  await world?.close();
});

function ping(from: string, to: string, count = 3): number {
  const outcome = world.run('ip', ['netns', 'exec', from, 'ping', ...pingArguments(to, count, 0.1, 3)]);
  return Number(/(\d+) received/.exec(outcome.stdout)?.[1] ?? 0);
}

function warnings(): string[] {
  return world.log.split('\n').filter((line) => /\|(WARN|ERR|EMER)\|/.test(line) && !OF_THE_MACHINE.test(line));
}

here('hosts reach each other over NORMAL forwarding, and the bridge over its internal port', () => {
  const middle = world.namespace('sw');
  world.must('ip', '-n', middle, 'link', 'set', 'br0', 'up');
  world.must('ip', '-n', middle, 'addr', 'add', '10.9.0.3/24', 'dev', 'br0');
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
  expect(ping(hosts[1], '10.9.0.3')).toBe(3);
});

here('ovs-dpctl under the shim and ovs-appctl see the same ports and flows', async () => {
  ping(hosts[0], '10.9.0.2', 5);
  const shown = world.shimmed('ovs-dpctl', 'show');
  expect(shown.stderr).toBe('');
  expect(shown.stdout).toMatch(/port 0: ovs-system \(internal\)/);
  expect(shown.stdout).toMatch(/port \d+: br0 \(internal\)/);
  expect(shown.stdout).toMatch(/port \d+: va/);
  const flows = world.shimmed('ovs-dpctl', 'dump-flows');
  expect(flows.stdout).toMatch(
    /eth_type\(0x0800\),ipv4\(frag=no\), packets:[1-9]\d*, bytes:\d+, used:[\d.]+s, actions:\d/,
  );
  const stable = (text: string) =>
    text
      .replaceAll(/ (packets|bytes|used):[^,]+,/g, '')
      .split('\n')
      .sort();
  // A flow may come or go between the two.
  await vi.waitFor(
    () =>
      expect(stable(world.appctl('dpctl/dump-flows'))).toEqual(stable(world.shimmed('ovs-dpctl', 'dump-flows').stdout)),
    { timeout: 15_000, interval: 200 },
  );
});

here('a flow that ovs-dpctl adds, changes and deletes is there, changed and gone', () => {
  world.shimmed('ovs-dpctl', 'add-dp', 'dp1');
  const match = 'in_port(0),eth(),eth_type(0x0800),ipv4(dst=10.1.0.0/255.255.0.0)';
  const add = world.shimmed('ovs-dpctl', 'add-flow', 'dp1', match, 'push_vlan(vid=5,pcp=0),0');
  expect(add.stderr).toBe('');
  const dump = world.shimmed('ovs-dpctl', 'dump-flows', 'dp1').stdout;
  expect(dump).toContain('ipv4(dst=10.1.0.0/255.255.0.0');
  expect(dump).toContain('actions:push_vlan(vid=5,pcp=0),0');
  expect(world.shimmed('ovs-dpctl', 'mod-flow', 'dp1', match, '0').stderr).toBe('');
  expect(world.shimmed('ovs-dpctl', 'dump-flows', 'dp1').stdout).toMatch(/actions:0$/m);
  expect(world.shimmed('ovs-dpctl', 'add-flow', 'dp1', match, 'pop_mpls(eth_type=0x800)').stderr).toMatch(
    /Invalid argument|File exists/,
  );
  expect(world.shimmed('ovs-dpctl', 'del-flow', 'dp1', match).code).toBe(0);
  expect(world.shimmed('ovs-dpctl', 'dump-flows', 'dp1').stdout).toBe('');
  expect(world.shimmed('ovs-dpctl', 'del-dp', 'dp1').code).toBe(0);
  expect(world.shimmed('ovs-dpctl', 'show', 'dp1').code).not.toBe(0);
});

here('meters drop what is too much', () => {
  const br0 = `unix:${world.folder}/br0.mgmt`;
  world.must('ovs-ofctl', '-O', 'OpenFlow13', 'add-meter', br0, 'meter=1 pktps bands=type=drop rate=1');
  world.must('ovs-ofctl', '-O', 'OpenFlow13', 'add-flow', br0, 'priority=9,icmp,actions=meter:1,NORMAL');
  // A second's rate and a burst pass, then one a second: most of thirty echoes in three seconds do not.
  expect(ping(hosts[0], '10.9.0.2', 30)).toBeLessThan(15);
  world.must('ovs-ofctl', '-O', 'OpenFlow13', 'del-flows', br0, 'icmp');
  world.must('ovs-ofctl', '-O', 'OpenFlow13', 'del-meters', br0);
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
});

here('access ports of one VLAN reach each other, those of different ones do not', () => {
  world.vsctl('set', 'port', 'va', 'tag=10', '--', 'set', 'port', 'vb', 'tag=20');
  expect(ping(hosts[0], '10.9.0.2', 1)).toBe(0);
  world.vsctl('set', 'port', 'vb', 'tag=10');
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
  world.vsctl('clear', 'port', 'va', 'tag', '--', 'clear', 'port', 'vb', 'tag');
});

here('rules of several tables with registers and groups decide where packets go', () => {
  const br0 = `unix:${world.folder}/br0.mgmt`;
  const ofctl = (...args: string[]) => world.must('ovs-ofctl', '-O', 'OpenFlow13', ...args);
  ofctl('add-flow', br0, 'table=0,priority=5,icmp,in_port=va,actions=load:0x1->NXM_NX_REG1[],resubmit(,1)');
  const vb = world.vsctl('get', 'interface', 'vb', 'ofport').trim();
  ofctl('add-group', br0, `group_id=1,type=select,bucket=weight=1,actions=output:${vb}`);
  ofctl('add-flow', br0, 'table=1,reg1=1,actions=group:1');
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
  // The group is chosen by a hash, for which the packet passes the datapath twice.
  expect(world.appctl('dpctl/dump-flows')).toMatch(/recirc_id\(0x[0-9a-f]+\),dp_hash\(/);
  ofctl('add-flow', br0, 'table=1,reg1=1,actions=drop');
  expect(ping(hosts[0], '10.9.0.2', 1)).toBe(0);
  ofctl('del-flows', br0, 'icmp');
  ofctl('del-flows', br0, 'table=1');
  ofctl('del-groups', br0);
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
});

here('a tunnel is a port of the datapath and no device of the kernel', () => {
  world.vsctl('add-port', 'br0', 'tun', '--', 'set', 'interface', 'tun', 'type=vxlan', 'options:remote_ip=10.9.0.99');
  expect(world.shimmed('ovs-dpctl', 'show').stdout).toMatch(/vxlan_sys_4789 \(vxlan/);
  expect(world.run('ip', ['-n', world.namespace('sw'), 'link', 'show', 'vxlan_sys_4789']).code).not.toBe(0);
  world.vsctl('del-port', 'br0', 'tun');
  expect(world.shimmed('ovs-dpctl', 'show').stdout).not.toContain('vxlan_sys_4789');
});

here('a port that is deleted carries nothing, and again when it comes back', () => {
  world.vsctl('del-port', 'br0', 'vb');
  expect(ping(hosts[0], '10.9.0.2', 1)).toBe(0);
  world.vsctl('add-port', 'br0', 'vb');
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
});

here('the table of connections is empty, and the commands for it work', () => {
  expect(world.appctl('dpctl/dump-conntrack')).toBe('');
  expect(world.appctl('dpctl/flush-conntrack')).toBe('');
  expect(world.appctl('dpctl/ct-stats-show')).toContain('Total: 0');
  const limits = (...args: string[]) => world.must('ip', ...world.shimArguments('ovs-dpctl', args));
  limits('ct-set-limits', 'default=10', 'zone=5,limit=3');
  expect(limits('ct-get-limits')).toBe('default limit=10\nzone=5,limit=3,count=0\n');
  limits('ct-del-limits', 'zone=5');
  expect(limits('ct-get-limits', 'zone=5')).toBe('default limit=10\nzone=5,limit=10,count=0\n');
});

here('a device that vanishes takes its port along, and comes back with it', async () => {
  const ports = () => world.shimmed('ovs-dpctl', 'show', 'ovs-system').stdout;
  world.host('vc', '10.9.0.4/24');
  world.vsctl('add-port', 'br0', 'vc');
  expect(ports()).toContain(': vc\n');
  expect(ping(world.namespace('vc'), '10.9.0.1')).toBe(3);
  world.must('ip', '-n', world.namespace('sw'), 'link', 'del', 'vc');
  await until('the datapath has lost the port', () => !ports().includes(': vc\n'));
  await until('ovs-vswitchd knows', () => world.vsctl('get', 'interface', 'vc', 'ofport').trim() === '-1');
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
  world.host('vc', '10.9.0.4/24');
  await until('the port is back', () => ports().includes(': vc\n'));
  expect(ping(world.namespace('vc'), '10.9.0.1')).toBe(3);
  world.vsctl('del-port', 'br0', 'vc');
});

here('an internal port that is moved into another namespace works there', () => {
  world.vsctl('add-port', 'br0', 'int0', '--', 'set', 'interface', 'int0', 'type=internal');
  const other = world.namespace('other');
  world.must('ip', '-n', world.namespace('sw'), 'link', 'set', 'int0', 'netns', other);
  world.must('ip', '-n', other, 'link', 'set', 'int0', 'up');
  world.must('ip', '-n', other, 'addr', 'add', '10.9.0.7/24', 'dev', 'int0');
  expect(ping(other, '10.9.0.1')).toBe(3);
  world.vsctl('del-port', 'br0', 'int0');
  expect(world.run('ip', ['-n', other, 'link', 'show', 'int0']).code).not.toBe(0);
});

here('other changes of a device keep its port, and ovs-vswitchd hears of them', async () => {
  const middle = world.namespace('sw');
  world.must('ip', '-n', middle, 'link', 'set', 'va', 'mtu', '1400');
  await until('the MTU is known', () => world.vsctl('get', 'interface', 'va', 'mtu').trim() === '1400');
  world.must('ip', '-n', middle, 'link', 'set', 'va', 'down');
  await until('it is down', () => world.vsctl('get', 'interface', 'va', 'admin_state').trim() === 'down');
  expect(ping(hosts[0], '10.9.0.2', 1)).toBe(0);
  world.must('ip', '-n', middle, 'link', 'set', 'va', 'up');
  await until('it is up', () => world.vsctl('get', 'interface', 'va', 'link_state').trim() === 'up');
  // The kernel takes its time to tell the other end of the cable.
  await until('the host at its other end sees it', () => ping(hosts[0], '10.9.0.2', 1) === 1);
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
  expect(world.shimmed('ovs-dpctl', 'show', 'ovs-system').stdout).toContain(': va\n');
});

here('installed flows carry traffic while ovs-vswitchd is gone, and a new one takes over', async () => {
  ping(hosts[0], '10.9.0.2', 5);
  const pid = Number(world.must('cat', `${world.folder}/vswitchd.pid`));
  process.kill(pid, 'SIGKILL');
  await until('ovs-vswitchd is gone', () => world.run('kill', ['-0', `${pid}`]).code !== 0);
  expect(ping(hosts[0], '10.9.0.2')).toBe(3);
  await world.startVswitchd();
  await until(
    'the bridge is back',
    () => ping(hosts[0], '10.9.0.2', 1) === 1 && world.vsctl('list-ports', 'br0').includes('vb'),
  );
  expect(ping(hosts[1], '10.9.0.1')).toBe(3);
});

here('the log has no warning that is about the datapath', () => {
  expect(warnings().filter((line) => !OF_THE_LOST_DEVICE.test(line))).toEqual([]);
});

here('ovs-vswitchd in the background with a monitor is started again by it when it crashes', async () => {
  const pidOf = () => Number(world.run('cat', [`${world.folder}/vswitchd.pid`]).stdout);
  world.appctl('exit');
  await until('ovs-vswitchd has ended', () => Number.isNaN(pidOf()) || pidOf() === 0);
  const starter = await world.startVswitchd(['--detach', '--monitor']);
  await until('it is in the background', () => starter.exitCode === 0);
  const first = pidOf();
  expect(first).toBeGreaterThan(0);
  await until('the bridge is back', () => ping(hosts[0], '10.9.0.2', 1) === 1);
  process.kill(first, 'SIGSEGV');
  await until('the monitor has started another', () => pidOf() > 0 && pidOf() !== first);
  await until(
    'it answers',
    () => world.run('ovs-appctl', ['-t', `${world.folder}/vswitchd.ctl`, 'version']).code === 0,
  );
  await until(
    'the bridge is there',
    () => world.vsctl('list-ports', 'br0').includes('va') && ping(hosts[1], '10.9.0.1', 1) === 1,
  );
  world.appctl('exit');
  await until('monitor and ovs-vswitchd have ended', () => Number.isNaN(pidOf()) || pidOf() === 0);
});
