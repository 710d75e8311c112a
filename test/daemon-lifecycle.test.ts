/** The daemon's life: one a socket, killed and started anew, changed while it runs, never half of a change. */
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ApplyResult, PortInfo, Status } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';
import { pingArguments, unanswered } from './support/ping.ts';

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.end());

const twoPorts = 'ports: { a: { kind: netdev }, b: { kind: netdev } }\n';

function twoHosts(): void {
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
}

test('a second daemon on the same socket is told of the first in one sentence', () => {
  twoHosts();
  world.up(twoPorts);
  const pid = world.pid();
  const second = world.millrace('up');
  expect(second.code).toBe(4);
  expect(second.stderr.split('\n')[0]).toBe(`millrace: a daemon (pid ${pid}) already serves ${world.socket}`);
  expect(second.stderr).toContain('millrace down');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('a killed daemon leaves nothing that hinders the next one, which says once that it was', () => {
  twoHosts();
  world.up(`${twoPorts}`);
  world.ok('port', 'add', 'tap0', '--kind', 'tap');
  const pid = world.pid();
  must('kill', '-9', String(pid));
  expect(existsSync(world.socket)).toBe(true);
  const down = world.millrace('status');
  expect([down.code, down.stderr]).toEqual([3, expect.stringContaining('no daemon is running')]);

  world.up(twoPorts);
  expect(world.pid()).not.toBe(pid);
  expect(world.log().match(/was killed; what it left is/g)).toHaveLength(1);
  expect(world.log()).toContain(`"pid":${pid}`);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(must('ip', '-n', world.middle, 'link')).not.toContain('tap0');
  world.ok('down');
  world.up(twoPorts);
  expect(world.log().match(/was killed; what it left is/g)).toHaveLength(1);
});

test('an interface of a killed daemon that the next one does not want belongs to the kernel again', async () => {
  twoHosts();
  must('ip', '-n', world.middle, 'address', 'add', '10.9.0.254/24', 'dev', 'a');
  world.up(twoPorts);
  expect(world.pings('a', '10.9.0.254', 1)).toBe(false);
  must('kill', '-9', String(world.pid()));
  world.up('ports: { b: { kind: netdev } }\n');
  await until('the kernel answers', () => world.pings('a', '10.9.0.254', 1));
});

test('SIGTERM ends the daemon cleanly and gives the interfaces back to the kernel', async () => {
  twoHosts();
  must('ip', '-n', world.middle, 'address', 'add', '10.9.0.254/24', 'dev', 'a');
  world.up(twoPorts);
  const pid = world.pid();
  expect(world.pings('a', '10.9.0.254', 1)).toBe(false);
  must('kill', '-TERM', String(pid));
  await until('the daemon is gone', () => !existsSync(world.socket) && !existsSync(`${world.socket}.lock`));
  await until('the kernel answers again', () => world.pings('a', '10.9.0.254', 1));
  expect(world.log()).toContain('SIGTERM');
});

test('a changed file is applied as the difference, without touching the ports that stay', async () => {
  twoHosts();
  world.host('c', '10.9.0.3/24');
  world.up(twoPorts);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  const before = world.json<PortInfo[]>('port', 'list');
  const file = world.file(
    'changed.yaml',
    'ports: { a: { kind: netdev }, b: { kind: netdev, dhcpGuard: true }, c: { kind: netdev } }\n',
  );
  expect(world.ok('config', 'diff', file)).toBe('change port b (dhcpGuard)\nadd port c (netdev c)\n');

  const ping = world.spawn('ip', [
    'netns',
    'exec',
    world.namespace('a'),
    'ping',
    ...pingArguments('10.9.0.2', 100, 0.01),
  ]);
  let report = '';
  ping.stdout?.on('data', (chunk) => {
    report += chunk;
  });
  const ended = new Promise((resolve) => ping.once('close', resolve));
  const applied = world.json<ApplyResult>('up', '-f', file);
  expect(applied.steps).toEqual(['change port b (dhcpGuard)', 'add port c (netdev c)']);
  await ended;
  expect(unanswered(report, 100)).toEqual([]);

  const after = world.json<PortInfo[]>('port', 'list');
  expect(after.slice(0, 2).map((port) => port.id)).toEqual(before.map((port) => port.id));
  expect(world.pings('a', '10.9.0.3')).toBe(true);
  expect(world.json<ApplyResult>('up', '-f', file).steps).toEqual([]);
});

test('a change that fails in the middle is taken back whole', () => {
  twoHosts();
  world.up(twoPorts);
  const before = world.json<Record<string, unknown>>('config', 'show');
  const file = world.file(
    'broken.yaml',
    'ports:\n  b: { kind: netdev }\n  m: { kind: memory }\n  x: { kind: netdev, device: nowhere }\n',
  );
  const outcome = world.millrace('up', '-f', file);
  expect(outcome.code).toBe(4);
  expect(outcome.stderr).toContain('cannot add port x (netdev nowhere): there is no interface nowhere');
  expect(outcome.stderr).toContain('has been taken back');
  expect(world.json('config', 'show')).toEqual(before);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('a file with mistakes changes nothing and says where they are', () => {
  twoHosts();
  world.up(twoPorts);
  const file = world.file('wrong.yaml', 'ports:\n  a: { kind: netdev, vlan: { mode: access, id: 9999 } }\n');
  const outcome = world.millrace('up', '-f', file);
  expect(outcome.code).toBe(2);
  expect(outcome.stderr).toContain(`${file}:2:48: ports.a.vlan.id: must be a whole number from 1 to 4094`);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('a daemon that cannot start says why, in the foreground and in the background, and leaves nothing', () => {
  const file = world.file('millrace.yaml', 'ports: { a: { kind: netdev, device: nowhere } }\n');
  for (const mode of [['--daemon'], []]) {
    const outcome = world.millrace('up', ...mode, '-f', file);
    expect(outcome.code).toBe(4);
    expect(outcome.stderr).toContain('there is no interface nowhere');
    expect(outcome.stderr).not.toMatch(/\n\s+at /);
    expect(existsSync(world.socket)).toBe(false);
    expect(existsSync(`${world.socket}.lock`)).toBe(false);
  }
});

test('without privilege one sentence says what is needed', () => {
  world.host('a');
  must('chown', '-R', '65534', world.folder);
  // It may read: whoever runs the tests may keep the project where nobody else looks.
  const capabilities = ['--inh-caps', '--ambient-caps', '--bounding-set'].flatMap((kind) => [
    kind,
    '-all,+dac_read_search',
  ]);
  const nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', ...capabilities];
  const bin = `${import.meta.dirname}/../bin/millrace.js`;
  for (const [kind, doing] of [
    ['tap', 'cannot make TAP a'],
    ['netdev', 'cannot take over a'],
  ]) {
    const file = world.file('millrace.yaml', `ports: { a: { kind: ${kind} } }\n`);
    const command = [...nobody, process.execPath, bin, '--socket', world.socket, 'up', '-f', file];
    const outcome = run('ip', ['netns', 'exec', kind === 'tap' ? world.namespace('empty') : world.middle, ...command]);
    expect([outcome.code, outcome.stderr]).toEqual([5, expect.stringContaining(doing)]);
    expect(outcome.stderr).toContain('run as root');
  }
});

test('an idle daemon takes less than 1 % of a core and 150 MB', async () => {
  twoHosts();
  world.up(twoPorts);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  const { pid } = world.json<Status>('status');
  const ticks = () => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  const residentMegabytes = () =>
    Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
  // A tick is 10 ms. What starting and the first packets cost ends at some time, such as compiling what has become hot, and the thread that makes programs.
  const isIdle = async () => {
    const before = ticks();
    await new Promise((resume) => setTimeout(resume, 5_000));
    return (ticks() - before) / 500 < 0.01 && residentMegabytes() < 150;
  };
  await until('it is idle', isIdle, 40_000);
});

test('a daemon that ends just as it is asked is none: the next one starts', async () => {
  twoHosts();
  // What was killed may take a connection, and says nothing any more.
  let taken = 0;
  const dying = createServer((connection) => {
    taken += 1;
    connection.once('data', () => {
      connection.destroy();
      dying.close();
    });
  });
  await new Promise<void>((listening) => {
    dying.listen(world.socket, listening);
  });
  const file = world.file('millrace.yaml', twoPorts);
  const child = world.start(['up', '--daemon', '-f', file]);
  const code = await new Promise((gone) => {
    child.once('exit', gone);
  });
  expect([taken, code]).toEqual([1, 0]);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});
