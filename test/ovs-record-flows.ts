/**
 * Makes src/extensions/ovs/testing/flows.jsonl: flows that Open vSwitch's own programs put, byte for byte, one a line. ovs-vswitchd makes
 * them of OpenFlow rules and a frame each; ovs-dpctl of text, where no rule leads to such a flow. `shown` is how ovs-dpctl prints the
 * flow that it reads back. The tests of translate/ hold what we read and what we write against them.
 *
 *     node node_modules/jiti/lib/jiti-cli.mjs test/ovs-record-flows.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DPCTL_FLOWS, FRAMES, GROUPS, RULES, TABLES } from './ovs-record-rules.ts';
import { OvsWorld, until } from './ovs-world.ts';

const FLOW_FAMILY = 0x7003;
const FLOW_NEW = 1;
/** struct nlmsghdr, genlmsghdr and ovs_header. */
const HEADERS_BYTES = 24;
const FlowAttribute = { KEY: 1, ACTIONS: 2, MASK: 7, UFID: 9 } as const;
const output = join(import.meta.dirname, '../src/extensions/ovs/testing/flows.jsonl');
const SEND = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); s.send(bytes.fromhex(sys.argv[1]))`;

interface Put {
  ufid: string;
  key: string;
  mask: string;
  actions: string;
}

/** The flows that are put in netlink datagrams, by their attributes. */
function putsIn(datagrams: string): Put[] {
  const puts: Put[] = [];
  for (const line of datagrams.split('\n')) {
    const bytes = Buffer.from(line, 'hex');
    for (let at = 0; at + HEADERS_BYTES <= bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      if (bytes.readUInt16LE(at + 4) === FLOW_FAMILY && bytes[at + 16] === FLOW_NEW) {
        puts.push(attributesOf(bytes.subarray(at + HEADERS_BYTES, at + length)));
      }
      at += (length + 3) & ~3;
    }
  }
  return puts;
}

function attributesOf(bytes: Buffer): Put {
  const found = new Map<number, string>();
  for (let at = 0; at + 4 <= bytes.length; at += (bytes.readUInt16LE(at) + 3) & ~3) {
    found.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.toString('hex', at + 4, at + bytes.readUInt16LE(at)));
  }
  const of = (type: number) => found.get(type) ?? '';
  const { KEY, MASK, ACTIONS, UFID } = FlowAttribute;
  return { ufid: of(UFID), key: of(KEY), mask: of(MASK), actions: of(ACTIONS) };
}

/** What ovs-dpctl prints of flows, without statistics. @param identifiers whether to say every bit, and which flow it is */
function printed(world: OvsWorld, datapath: string, identifiers: boolean): string[] {
  const options = identifiers ? ['-m'] : [];
  const text = world.shimmed('ovs-dpctl', '--no-names', ...options, 'dump-flows', datapath).stdout;
  return text.trim().split('\n');
}

/** The same by identifier, whose text is four numbers in the host's order. */
function shownBy(world: OvsWorld, datapath: string): Map<string, string> {
  const shown = new Map<string, string>();
  const lines = printed(world, datapath, false);
  for (const [i, line] of printed(world, datapath, true).entries()) {
    const ufid = /^ufid:([^,]*)/.exec(line)?.[1].replaceAll('-', '') ?? '';
    const flow = lines[i].replace(/, packets:.* actions:/, ' actions:');
    shown.set(Buffer.from(ufid, 'hex').swap32().toString('hex'), flow);
  }
  return shown;
}

const world = new OvsWorld();
const lines: string[] = [];
try {
  const trace = join(world.folder, 'trace');
  await world.startDatapath({ OVS_HARNESS_TRACE: trace });
  await world.startDatabase();
  await world.startVswitchd();
  let read = 0;
  const news = () => {
    const text = readFileSync(trace, 'utf8');
    const since = text.slice(read);
    read = text.length;
    return putsIn(since);
  };
  const hosts = [world.host('va', '10.9.0.1/24'), world.host('vb', '10.9.0.2/24')];
  for (const host of hosts) {
    // Nothing is to be sent but the frames.
    world.must('ip', 'netns', 'exec', host, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    world.must('ip', '-n', host, 'link', 'set', 'eth0', 'arp', 'off');
  }
  const port = (name: string, number: number, ...settings: string[]) =>
    world.vsctl('add-port', 'br0', name, '--', 'set', 'interface', name, `ofport_request=${number}`, ...settings);
  world.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'fail-mode=secure', 'protocols=OpenFlow10,OpenFlow15');
  world.vsctl('set', 'Open_vSwitch', '.', 'other_config:vlan-limit=2');
  port('va', 1);
  port('vb', 2);
  const remote = ['options:remote_ip=10.9.0.99', 'options:key=flow'];
  port('vxlan', 10, 'type=vxlan', 'options:csum=true', ...remote);
  port('geneve', 11, 'type=geneve', ...remote);
  port('gre', 12, 'type=gre', ...remote);
  port('gbp', 13, 'type=vxlan', 'options:exts=gbp', 'options:dst_port=4790', ...remote);
  port('six', 14, 'type=geneve', 'options:remote_ip=fd00::9', 'options:key=flow', 'options:df_default=false');
  const collectors = ['--', 'create', 'Flow_Sample_Collector_Set', 'id=1', 'bridge=@bridge', 'ipfix=@ipfix'];
  world.vsctl(
    ...['--', '--id=@bridge', 'get', 'bridge', 'br0'],
    ...['--', '--id=@ipfix', 'create', 'IPFIX', 'targets="127.0.0.1:4739"'],
    ...collectors,
  );
  const br0 = `unix:${world.folder}/br0.mgmt`;
  const ofctl = (...args: string[]) => world.must('ovs-ofctl', '-O', 'OpenFlow15', ...args);
  for (const [command, argument] of GROUPS) ofctl(command, br0, argument);

  for (const [frame, match, actions] of RULES) {
    ofctl('del-flows', br0);
    ofctl('add-flow', br0, `table=0,${match},actions=${actions}`);
    for (const rule of TABLES) ofctl('add-flow', br0, rule);
    world.appctl('revalidator/purge');
    news();
    world.must('ip', 'netns', 'exec', hosts[0], 'python3', '-c', SEND, FRAMES[frame]);
    const puts: Put[] = [];
    // A list that recirculates leads to another flow.
    await until(`a flow for ${frame} ${actions}`, () => {
      puts.push(...news());
      return puts.length > 0 && (puts.length > 1 || !/decap\(\),decap|group:1/.test(actions));
    });
    const shown = shownBy(world, 'ovs-system');
    for (const { ufid, ...put } of puts) {
      const rule = `${match} actions=${actions}`;
      lines.push(JSON.stringify({ rule, frame: FRAMES[frame], ...put, shown: shown.get(ufid) ?? null }));
    }
  }

  const dpctl = (...args: string[]) => world.shimmed('ovs-dpctl', ...args);
  dpctl('add-dp', 'dp1');
  for (const [match, actions] of DPCTL_FLOWS) {
    news();
    const outcome = dpctl('add-flow', 'dp1', `ufid:00000000-0000-0000-0000-000000000001,${match}`, actions);
    const [put] = news();
    if (put === undefined) throw new Error(`${match} ${actions}: ${outcome.stderr}`);
    const { ufid, ...bytes } = put;
    const shown = outcome.code === 0 ? shownBy(world, 'dp1').get(ufid) : null;
    lines.push(JSON.stringify({ rule: `${match} ${actions}`, frame: null, ...bytes, shown: shown ?? null }));
    dpctl('del-flows', 'dp1');
  }
  writeFileSync(output, `${lines.join('\n')}\n`);
  process.stdout.write(`${lines.length} flows\n`);
} finally {
  await world.close();
}
