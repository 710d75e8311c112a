import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Suite } from './suite.ts';
import { lastCheck, readEnding, readVerdict } from './verdict.ts';

let folder: string;
let suite: Suite;
const TEST = { number: 3, group: 'datapath', name: 'ping between two ports on vlan' };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-verdict-'));
  suite = { kind: 'millrace', sources: join(folder, 'sources'), driver: '/cache/system-kmod-testsuite', tests: [TEST] };
});
afterEach(() => rmSync(folder, { recursive: true }));

function left(path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
}

const said = (ending: string) =>
  `## title ##\n  3: datapath - ping between two ports on vlan       ${ending}\n\n1 test ran.\n`;
const log = (text: string) => left('system-kmod-testsuite.dir/003/system-kmod-testsuite.log', text);

test('a test that passed has nothing to say', () => {
  left('said', said('ok'));
  expect(readVerdict(folder, suite, TEST, null)).toMatchObject({ outcome: 'pass', cause: '' });
});

test('a test passes only if the daemon has outlived it', () => {
  left('said', said('ok'));
  left('daemon', 'ended before the test\n');
  expect(readVerdict(folder, suite, TEST, null)).toMatchObject({
    outcome: 'fail',
    cause: 'the daemon was ended before the test',
  });
});

test('a failing test is named by its cause, or else by its place', () => {
  left('said', said('FAILED (system-traffic.at:57)'));
  expect(readVerdict(folder, suite, TEST, null)).toMatchObject({
    outcome: 'fail',
    cause: 'at system-traffic.at:57',
    isExplained: false,
  });
  log(`./system-traffic.at:47: modprobe openvswitch
./system-traffic.at:57: ip netns exec at_ns0 sh << NS_EXEC_HEREDOC
ip link add link p0 name p0.100 type vlan proto 802.1q id 100
NS_EXEC_HEREDOC
--- /dev/null
+++ stderr
+Error: Unknown device type.
./system-traffic.at:57: exit code was 2, expected 0
`);
  expect(readVerdict(folder, suite, TEST, null)).toEqual({
    outcome: 'fail',
    cause: 'this kernel has no 8021q',
    whose: 'kernel',
    isExplained: true,
  });
});

test('what the datapath does not support is the cause only of what asks for it', () => {
  left('said', said('FAILED (system-traffic.at:57)'));
  const causeOf = (command: string, logged = '') => {
    left('system-kmod-testsuite.dir/003/ovs-vswitchd.log', `INFO|Datapath does not support ct_state\n${logged}\n`);
    log(`./system-traffic.at:57: ${command}\n-some\n`);
    return readVerdict(folder, suite, TEST, null).cause;
  };
  expect(causeOf('ovs-appctl dpctl/dump-conntrack')).toBe('no connection tracking');
  expect(causeOf('wget 10.1.1.1', 'received: OFPT_PACKET_OUT actions=ct(table=1)')).toBe('no connection tracking');
  expect(causeOf('wget 10.1.1.1')).toBe('at system-traffic.at:57');
  expect(causeOf('wget 10.1.1.1', 'failed to add g0 as port: Address family not supported by protocol')).toBe(
    'no such kind of tunnel',
  );
});

test('a skipped test is named by the line of its source', () => {
  left(
    'sources/tests/system-traffic.at',
    'AT_SETUP([x])\nAT_SKIP_IF([test $HAVE_TFTP = no])\nOVS_CHECK_CT_CLEAR()\n  SOMETHING\n',
  );
  const causes = [2, 3, 4, 9].map((line) => {
    left('said', said(`skipped (system-traffic.at:${line})`));
    return readVerdict(folder, suite, TEST, null).cause;
  });
  expect(causes).toEqual(['no tftpy', 'no ct_clear', 'SOMETHING', 'system-traffic.at:9']);
});

test('a test that was ended before its time fails, and one that never began says what was said', () => {
  left('said', '');
  expect(readVerdict(folder, suite, TEST, 'not ended within 5 s')).toMatchObject({
    outcome: 'fail',
    cause: 'not ended within 5 s',
  });
  left('sandbox.log', 'unshare: unshare failed: Operation not permitted\n');
  expect(readVerdict(folder, suite, TEST, null)).toMatchObject({
    outcome: 'fail',
    cause: 'the test did not begin: unshare: unshare failed: Operation not permitted',
    whose: 'machine',
  });
});

test('the ending of one test is not taken for that of another', () => {
  expect(readEnding(' 33: x - y   ok\n', 3)).toBeNull();
  expect(readEnding('  3: x - ok FAILED (a.at:1)\n', 3)).toEqual({ outcome: 'fail', at: 'a.at:1' });
  expect(readEnding('  3: x   UNEXPECTED PASS\n', 3)?.outcome).toBe('fail');
  expect(readEnding('  3: x   expected failure (a.at:1)\n', 3)?.outcome).toBe('pass');
});

test('the last check begins with its command', () => {
  const last = './b.at:9: wait for it\nno\n./b.at:9: exit code was 1, expected 0\n';
  expect(lastCheck(`./a.at:1: one\n./a.at:2: two\n${last}`)).toBe(last);
  expect(lastCheck(`./a.at:1: one\n${last}ovsdb-server.log:\n> ./c.at:1: in a log\n`)).toBe(last);
  expect(lastCheck('nothing of the kind')).toBe('nothing of the kind');
});
