/** The command line against a running daemon: exit codes, JSON everywhere, completion, and hostile peers on the control socket. */
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run, until, World } from './daemon-world.ts';

const bin = join(import.meta.dirname, '../bin/millrace.js');
let world: World;
beforeAll(() => {
  world = new World();
  world.up('ports: { web: { kind: memory }, uplink: { kind: memory } }\n');
});
afterAll(() => world.end());

test('every command that asks the daemon prints JSON when told to', () => {
  for (const args of [
    ['status'],
    ['port'],
    ['port', 'show', 'web'],
    ['extension'],
    ['extension', 'show', 'learning'],
    ['fdb'],
    ['connections'],
    ['connections', 'stats'],
    ['connections', 'limits'],
    ['connections', 'flush', '--all'],
    ['stats'],
    ['drops'],
    ['events'],
    ['config', 'show'],
    ['config', 'diff', join(world.folder, 'millrace.yaml')],
    ['trace', 'web', 'ffffffffffff0200000000010800'],
    ['inject', 'web', 'ffffffffffff0200000000010800'],
  ]) {
    const text = world.ok('--json', ...args);
    expect(JSON.parse(text)).toBeDefined();
    expect(world.ok(...args)).not.toBe('');
  }
});

test('failures have the exit codes of the book, and are JSON on standard error when told to', () => {
  expect(world.millrace('port', 'show', 'nothing').code).toBe(4);
  expect(world.millrace('port', 'set', 'web', 'nonsense').code).toBe(2);
  expect(world.millrace('port', 'set', 'web', 'nonsens=1').code).toBe(2);
  expect(world.millrace('connections', 'show', '7').code).toBe(4);
  for (const wrong of [
    ['flush'],
    ['flush', '--all', '--zone', '5'],
    ['--zone', '70000'],
    ['--source', 'here'],
    ['--state', 'SLEEPING'],
    ['--mark', '1/x'],
  ])
    expect(world.millrace('connections', ...wrong).code).toBe(2);
  expect(world.millrace('frobnicate').code).toBe(2);
  expect(world.millrace('trace', 'web', 'xyz').code).toBe(2);
  expect(run(process.execPath, [bin, '--socket', '/nonexistent/x.sock', 'status']).code).toBe(3);
  const failure = JSON.parse(world.millrace('--json', 'port', 'show', 'wbe').stderr);
  expect(failure).toEqual({
    error: { kind: 'not-found', message: 'there is no port "wbe"', hint: 'did you mean "web"?' },
  });
});

test('help has examples, and says what the exit codes mean', () => {
  expect(run(process.execPath, [bin, 'port', 'add', '--help']).stdout).toContain('Examples:');
  expect(run(process.execPath, [bin, 'help', 'exit-codes']).stdout).toMatch(/^ {2}3 {2}no daemon/m);
  const version = run(process.execPath, [bin, '--version']);
  expect([version.code, version.stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
});

test('a shell completes commands, options, and the names of what runs', () => {
  const complete = (...line: string[]) => world.ok('complete', '--', ...line).split('\n');
  const asked = (...line: string[]) =>
    run(process.execPath, [bin, 'complete', '--', '--socket', world.socket, ...line])
      .stdout.split('\n')
      .map((row) => row.split('\t')[0]);
  expect(complete('port', '').join('\n')).toMatch(/^add\t/m);
  expect(asked('port', 'show', '')).toEqual(expect.arrayContaining(['web', 'uplink']));
  expect(asked('capture', 'w')).toEqual(expect.arrayContaining(['web']));
  expect(asked('extension', 'disable', '')).toEqual(expect.arrayContaining(['learning']));
  for (const shell of ['bash', 'zsh', 'fish']) expect(world.ok('completion', shell)).toContain('millrace');
  const script = world.file('completion.bash', world.ok('completion', 'bash'));
  expect(run('bash', ['-n', script]).code).toBe(0);
});

test('a reader that goes away early ends a command quietly', () => {
  const command = `${process.execPath} ${bin} --help | head -1; echo "\${PIPESTATUS[0]}"`;
  const outcome = run('bash', ['-c', command]);
  expect(outcome.stdout.trim().split('\n').pop()).toBe('0');
  expect(outcome.stderr).toBe('');
});

test('rates are shown again and again, for programs one JSON a line', async () => {
  const child = world.start(['--json', 'stats', 'web', '--watch', '--interval', '0.2']);
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  await until('packets are seen', () => {
    world.ok('inject', 'web', 'ffffffffffff0200000000010800', '00'.repeat(46));
    return text
      .split('\n')
      .some((line) => line.startsWith('[') && line.endsWith(']') && JSON.parse(line)[0].receivedPackets > 0);
  });
  expect(JSON.parse(text.split('\n')[0])).toMatchObject([{ port: 'web', state: 'up' }]);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGINT');
  expect(await ended).toBe(0);
});

test('output into a pipe has no colours', () => {
  expect(world.ok('port')).not.toContain('\u001b');
  expect(world.ok('stats')).not.toContain('\u001b');
});

test('hostile peers on the control socket do not disturb it', async () => {
  const junk = [
    Buffer.from('\0\0\0\0\n'),
    Buffer.from('{"jsonrpc":"2.0","id":1,"method":"port.add","params":{"name":"../..","port":{"kind":"netdev"}}}\n'),
    Buffer.from(
      '{"jsonrpc":"2.0","id":1,"method":"port.add","params":{"name":"x","port":{"__proto__":{"kind":"memory"}}}}\n',
    ),
    Buffer.from('{"jsonrpc":"2.0","id":1,"method":"__proto__"}\n'),
    Buffer.from('{"jsonrpc":"2.0","id":1,"method":"trace","params":{"port":"web","frame":"00"}}\n'),
    Buffer.from(`${'['.repeat(100_000)}\n`),
    Buffer.alloc(3 << 20, 0x20),
  ];
  await Promise.all(
    Array.from({ length: 80 }, (_, i) => {
      const socket = connect(world.socket);
      return new Promise<void>((resolve) => {
        socket.on('error', () => {});
        socket.on('close', () => resolve());
        socket.on('data', () => {});
        socket.write(junk[i % junk.length]);
        setTimeout(() => socket.destroy(), 300);
      });
    }),
  );
  await until('it answers', () => world.millrace('status').code === 0);
  expect(world.json<{ name: string }[]>('port', 'list').map((port) => port.name)).toEqual(['web', 'uplink']);
});

test('events are followed until the daemon ends', async () => {
  const child = world.start(['events', '--follow', '--lines', '0']);
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await until('an event is seen', () => {
    world.ok('port', 'add', 'passing', '--kind', 'memory');
    world.ok('port', 'del', 'passing');
    return text.includes('port passing was removed');
  });
  world.ok('down');
  expect(await ended).toBe(1);
});
