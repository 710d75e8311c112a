/** The shim by itself: what it must do for any program that is started under it. The programs are Node's and the system's own. */

import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildShim, hasOpenVSwitch, OvsWorld, until } from './ovs-world.ts';

let world: OvsWorld;

beforeAll(async () => {
  world = new OvsWorld();
  await world.startDatapath();
});

afterAll(async () => {
  await world.close();
});

/** Run a script of system calls in a Node process of its own, under the shim; it prints what it found as JSON. */
function script(body: string): unknown {
  const koffi = join(import.meta.dirname, '../node_modules/koffi/index.js');
  const prelude = `
    const koffi = require(${JSON.stringify(koffi)});
    // The whole process, so that calls go through the preloaded names.
    const c = koffi.load(null);
    const socket = c.func('int socket(int, int, int)');
    const getsockname = c.func('int getsockname(int, void *, void *)');
    const send = c.func('int64_t send(int, const void *, size_t, int)');
    const recv = c.func('int64_t recv(int, void *, size_t, int)');
    const dup = c.func('int dup(int)');
    const fcntl = c.func('int fcntl(int, int, int)');
    const close = c.func('int close(int)');
    const DONTWAIT = 0x40;
    const open = () => socket(16, 3, 16);
    const port = (fd) => { const a = Buffer.alloc(12), l = Buffer.from([12, 0, 0, 0]); getsockname(fd, a, l); return [a.readUInt16LE(0), a.readUInt32LE(4), l.readUInt32LE(0)]; };
    const family = (name, flags = 1) => { const n = Buffer.from(name + '\\0'); const b = Buffer.alloc(24 + ((n.length + 3) & ~3)); b.writeUInt32LE(b.length, 0); b.writeUInt16LE(16, 4); b.writeUInt16LE(flags, 6); b.writeUInt32LE(7, 8); b[16] = 3; b[17] = 1; b.writeUInt16LE(4 + n.length, 20); b.writeUInt16LE(2, 22); n.copy(b, 24); return b; };
    const take = (fd, flags = DONTWAIT) => { const b = Buffer.alloc(65536); const n = Number(recv(fd, b, b.length, flags)); return n < 0 ? 'errno ' + koffi.errno() : { type: b.readUInt16LE(4), seq: b.readUInt32LE(8), port: b.readUInt32LE(12), error: b.readUInt16LE(4) === 2 ? b.readInt32LE(16) : 0, length: n }; };
    const ask = (fd, name, flags) => Number(send(fd, family(name, flags), family(name).length, 0));
  `;
  const outcome = world.shimmed(
    process.execPath,
    '-e',
    `${prelude}\nconsole.log(JSON.stringify((() => {${body}})()));`,
  );
  if (outcome.code !== 0) throw new Error(outcome.stderr);
  return JSON.parse(outcome.stdout.trim().split('\n').at(-1) ?? 'null');
}

test('a reply is there to be read when the send returns', () => {
  expect(
    script('const fd = open(); const sent = ask(fd, "ovs_flow"); return [sent > 0, take(fd).type, take(fd)];'),
  ).toEqual([true, 16, 'errno 11']);
});

test('every socket has a port id of its own, as a netlink address', () => {
  const ports = script('return [port(open()), port(open())];') as [number, number, number][];
  expect(ports.map(([type, , length]) => [type, length])).toEqual([
    [16, 12],
    [16, 12],
  ]);
  expect(ports[0][1]).not.toBe(ports[1][1]);
});

test("families that are the kernel's are found in the kernel, and those that nobody has are not", () => {
  const answers = script(
    'const fd = open(); ask(fd, "nlctrl"); const known = take(fd); ask(fd, "no_such"); return [known.type, known.port === port(fd)[1], take(fd).error];',
  );
  expect(answers).toEqual([16, true, -2]);
});

test('descriptors that dup and fcntl made are the same socket, until the last is closed', () => {
  const same = script(`
    const fd = open(), other = dup(fd), third = fcntl(fd, 0, 100);
    const ports = [port(fd), port(other), port(third)].map((each) => each[1]);
    ask(fd, 'ovs_flow'); close(fd);
    return [ports[0] === ports[1] && ports[1] === ports[2], take(other).type, ask(third, 'ovs_vport') > 0, take(other).type];
  `);
  expect(same).toEqual([true, 16, true, 16]);
});

test('a message that is only peeked at stays', () => {
  expect(
    script('const fd = open(); ask(fd, "ovs_flow"); return [take(fd, 0x42).type, take(fd).type, take(fd)];'),
  ).toEqual([16, 16, 'errno 11']);
});

test('a socket that a program inherits through exec has its port id and works', () => {
  const outcome = script(`
    const fd = open(); fcntl(fd, 2, 0);
    const child = require('node:child_process').spawnSync(process.execPath, ['-e', \`${inheritor()}\`], { stdio: ['ignore', 'pipe', 'inherit', fd] });
    return [port(fd)[1], Number(child.stdout.toString())];
  `) as [number, number];
  expect(outcome[1]).toBe(outcome[0]);
});

function inheritor(): string {
  const koffi = join(import.meta.dirname, '../node_modules/koffi/index.js');
  return `const c = require('${koffi}').load(null); const a = Buffer.alloc(12); c.func('int getsockname(int, void *, void *)')(3, a, Buffer.from([12, 0, 0, 0])); console.log(a.readUInt32LE(4));`;
}

test('routing netlink reaches the kernel: ip works under the shim', () => {
  expect(world.shimmed('ip', 'link', 'show', 'lo').stdout).toContain('LOOPBACK');
});

test('without a daemon a netlink socket cannot be made, and other programs run', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-shim-'));
  try {
    const environment = { ...process.env, LD_PRELOAD: buildShim(), MILLRACE_OVS_SOCKET: join(folder, 'none') };
    expect(spawnSync('echo', ['well'], { env: environment, encoding: 'utf8' }).stdout).toBe('well\n');
    if (!hasOpenVSwitch()) return;
    expect(spawnSync('ovs-dpctl', ['show'], { env: environment, encoding: 'utf8', timeout: 10_000 }).status).not.toBe(
      0,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a connection of another kind to the socket is refused, and the daemon goes on', async () => {
  const problem = await new Promise<string>((resolve) => {
    createConnection(world.socket)
      .on('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? ''))
      .on('connect', () => resolve('connected'));
  });
  expect(problem).toBe('EPROTOTYPE');
  expect(script('return ask(open(), "ovs_flow") > 0;')).toBe(true);
});

test('without a compiler the build keeps what there is, and says what is missing', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-build-'));
  try {
    const tools = join(folder, 'bin');
    mkdirSync(tools);
    for (const tool of ['dirname', 'uname', 'mkdir', 'mv'])
      symlinkSync(spawnSync('which', [tool], { encoding: 'utf8' }).stdout.trim(), join(tools, tool));
    copyFileSync(join(import.meta.dirname, '../native/build.sh'), join(folder, 'build.sh'));
    const build = () =>
      spawnSync('/bin/sh', [join(folder, 'build.sh')], { env: { PATH: tools, ARCH: 'arm64' }, encoding: 'utf8' });
    expect(build()).toMatchObject({ status: 1, stdout: '' });
    const prebuilt = join(folder, 'prebuilt/arm64/millrace-shim.so');
    mkdirSync(dirname(prebuilt), { recursive: true });
    writeFileSync(prebuilt, '');
    expect(build()).toMatchObject({ status: 0, stdout: `${prebuilt}\n` });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('when the daemon has died, sends and reads fail at once', async () => {
  const other = new OvsWorld();
  try {
    const daemon = await other.startDatapath();
    const mark = join(other.folder, 'mark');
    const pending = new Promise<string>((resolve) => {
      const koffi = join(import.meta.dirname, '../node_modules/koffi/index.js');
      const body = `
        const koffi = require(${JSON.stringify(koffi)}); const c = koffi.load(null); const fs = require('node:fs');
        const send = c.func('int64_t send(int, const void *, size_t, int)'), recv = c.func('int64_t recv(int, void *, size_t, int)');
        const fd = c.func('int socket(int, int, int)')(16, 3, 16);
        fs.writeFileSync(${JSON.stringify(mark)}, '');
        setTimeout(() => {
          const request = Buffer.alloc(24); request.writeUInt32LE(24, 0); request.writeUInt16LE(0x7001, 4);
          const results = [Number(send(fd, request, 24, 0)), Number(recv(fd, Buffer.alloc(64), 64, 0))];
          console.log(JSON.stringify(results));
        }, 1500);`;
      const child = spawn(process.execPath, ['-e', body], {
        env: { ...process.env, LD_PRELOAD: other.shim, MILLRACE_OVS_SOCKET: other.socket },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let printed = '';
      child.stdout.on('data', (text) => {
        printed += text;
      });
      child.on('close', () => resolve(printed.trim()));
    });
    await until('the program is connected', () => existsSync(mark));
    daemon.kill('SIGKILL');
    expect(await pending).toBe('[-1,-1]');
  } finally {
    await other.close();
  }
});
