/** The seqpacket server, with a Python program at the other end: datagrams keep their bounds, a slow reader is waited for, ends are told once. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  EventLoop,
  type SeqpacketConnection,
  SeqpacketServer,
  type SeqpacketServerOptions,
  SystemError,
} from '../src/host/index.ts';
import { TakenDescriptors } from './support/index.ts';

const SECOND_MS = 1000;

let folder: string;
let path: string;
let loop: EventLoop;
let server: SeqpacketServer;
let peers: Peer[];
let children: ChildProcess[];

/** What the server sees of a connection. */
class Peer {
  readonly datagrams: Uint8Array[] = [];
  readonly connection: SeqpacketConnection;
  writable = 0;
  closes = 0;

  constructor(connection: SeqpacketConnection) {
    this.connection = connection;
  }

  onDatagram(datagram: Uint8Array): void {
    this.datagrams.push(datagram.slice());
  }

  onWritable(): void {
    this.writable += 1;
  }

  onClose(): void {
    this.closes += 1;
  }
}

function listen(options?: SeqpacketServerOptions): SeqpacketServer {
  return new SeqpacketServer(
    loop,
    path,
    (connection) => {
      const peer = new Peer(connection);
      connection.handler = peer;
      peers.push(peer);
    },
    options,
  );
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-seqpacket-'));
  path = join(folder, 'socket');
  loop = new EventLoop();
  peers = [];
  children = [];
  server = listen();
});

afterEach(() => {
  for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
  server.close();
  loop.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A program with a connection `s`. */
function program(body: string): { child: ChildProcess; text: () => string } {
  const source = `import socket, sys, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.connect('${path}')\n${body}`;
  const child = spawn('python3', ['-c', source], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  let printed = '';
  child.stdout?.on('data', (text) => {
    printed += text;
  });
  return { child, text: () => printed };
}

async function turnUntil(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 10 * SECOND_MS;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    loop.poll(5);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('datagrams keep their bounds in both directions, from 1 byte to hundreds of thousands', async () => {
  const { text } = program(`
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
for size in (1, 2, 70000, 150000): s.send(bytes([size & 255]) * size)
print([len(s.recv(1 << 20)) for _ in range(3)], flush=True)`);
  await turnUntil('all have come', () => peers[0]?.datagrams.length === 4);
  expect(peers[0].datagrams.map(({ length }) => length)).toEqual([1, 2, 70_000, 150_000]);
  expect(peers[0].datagrams[2].every((byte) => byte === (70_000 & 255))).toBe(true);
  for (const length of [3, 100_000, 5]) expect(peers[0].connection.send(new Uint8Array(length))).toBe(true);
  await turnUntil('the program has read', () => text().includes(']'));
  expect(text()).toBe('[3, 100000, 5]\n');
});

test('a reader that is slow is told apart: sends are refused, and told when there is room again', async () => {
  const { child, text } = program(`
print('there', flush=True); sys.stdin.readline(); total = 0
while total < 2000: total += 1; s.recv(9000)
print('read', flush=True); sys.stdin.readline()`);
  await turnUntil('the program is there', () => text().includes('there') && peers.length === 1);
  const [peer] = peers;
  let sent = 0;
  while (sent < 100_000 && peer.connection.send(new Uint8Array(8192))) sent += 1;
  expect(sent).toBeGreaterThan(4);
  expect(sent).toBeLessThan(100_000);
  expect(peer.connection.send(new Uint8Array(8192))).toBe(false);
  expect(peer.writable).toBe(0);
  child.stdin?.write('\n');
  while (sent < 2000) {
    await turnUntil('there is room', () => peer.writable > 0);
    peer.writable = 0;
    while (sent < 2000 && peer.connection.send(new Uint8Array(8192))) sent += 1;
  }
  await turnUntil('all is read', () => text().includes('read'));
  expect(peer.closes).toBe(0);
});

test('the end of either side is told once, and a connection that is gone takes everything', async () => {
  program('s.close()');
  await turnUntil('it has come and gone', () => peers[0]?.closes === 1);
  peers[0].connection.close();
  expect(peers[0].connection.send(new Uint8Array(9))).toBe(true);
  expect(peers[0].closes).toBe(1);
  const { text } = program('print(s.recv(9), flush=True)');
  await turnUntil('another has come', () => peers.length === 2);
  peers[1].connection.close();
  expect(peers[1].closes).toBe(1);
  await turnUntil('the program knows', () => text() !== '');
  expect(text()).toBe("b''\n");
});

test('an empty datagram and one of more than a megabyte end their connection, and no other', async () => {
  const { text } = program('print(s.recv(9), flush=True)');
  program("s.send(b'')");
  program(`
s.setsockopt(socket.SOL_SOCKET, 32, 4 << 20)
s.send(bytes((1 << 20) + 1))
time.sleep(9)`);
  await turnUntil(
    'two of three have been ended',
    () => peers.length === 3 && peers.filter(({ closes }) => closes === 1).length === 2,
  );
  const left = peers.filter(({ closes }) => closes === 0);
  expect(left.length).toBe(1);
  left[0].connection.send(Uint8Array.of(104, 105));
  await turnUntil('the other is served', () => text() !== '');
  expect(text()).toBe("b'hi'\n");
});

test('a program that floods does not keep others waiting', async () => {
  program(`
while True: s.send(bytes(100))`);
  await turnUntil('the flood is there', () => (peers[0]?.datagrams.length ?? 0) > 100);
  const { text } = program("s.send(b'x'); print(s.recv(9), flush=True)");
  await turnUntil('the other is heard', () => peers[1]?.datagrams.length === 1);
  peers[1].connection.send(Uint8Array.of(121));
  await turnUntil('and answered', () => text() !== '');
  expect(text()).toBe("b'y'\n");
});

test('closing the server ends its connections and removes the socket file; twice is harmless', async () => {
  const { text } = program('print(s.recv(9), flush=True)');
  await turnUntil('it has come', () => peers.length === 1);
  server.close();
  server.close();
  expect(peers[0].closes).toBe(1);
  expect(existsSync(path)).toBe(false);
  await turnUntil('the program knows', () => text() !== '');
});

test('where somebody listens nobody else can; what a dead server left is replaced; other files are left alone', async () => {
  expect(() => listen()).toThrow(SystemError);
  server.close();
  // Listens, and dies without removing its file.
  const dead = spawn('python3', [
    '-c',
    `import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind('${path}'); s.listen(1)`,
  ]);
  children.push(dead);
  await turnUntil('it has died', () => dead.exitCode === 0);
  expect(existsSync(path)).toBe(true);
  server = listen({ mode: 0o660 });
  program("s.send(b'x')");
  await turnUntil('it serves', () => peers[0]?.datagrams.length === 1);
  server.close();
  writeFileSync(path, 'a file');
  expect(() => listen()).toThrow(`${path} is an ordinary file, and not a socket`);
  expect(readFileSync(path, 'utf8')).toBe('a file');
});

/** A program that connects as often as it is told, and says how many of these connections were ended by the server and how many serve. */
const MANY = `
import time
s.settimeout(20); s.send(b'ready'); count = int(s.recv(9))
others = []
for i in range(count):
  o = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); o.settimeout(20); o.connect(s.getpeername()); others.append(o)
def served(o):
  try: o.send(b'x'); return o.recv(9) == b'y'
  except OSError: return False
results = [served(o) for o in others]
print(results.count(False), results.count(True), flush=True); s.recv(9)`;

/** Answer what the first program says with a number, and all others with a `y`. */
function answerMany(count: number): void {
  for (const peer of peers) {
    for (const datagram of peer.datagrams.splice(0)) {
      const text = Buffer.from(datagram).toString();
      peer.connection.send(Buffer.from(text === 'ready' ? String(count) : 'y'));
    }
  }
}

test('connections beyond the most that may be are ended at once, which is told', async () => {
  server.close();
  const refusals: string[] = [];
  server = listen({ maximumConnections: 4, onRefused: (why) => refusals.push(why) });
  const { text } = program(MANY);
  await turnUntil('all are served or refused', () => {
    answerMany(9);
    return text() !== '';
  });
  expect(text()).toBe('6 3\n');
  expect(refusals).toEqual(Array(6).fill('there are 4 already'));
});

test('without a descriptor left connections are ended, told, and the loop sleeps', async () => {
  server.close();
  const refusals: string[] = [];
  server = listen({ onRefused: (why) => refusals.push(why) });
  const { text } = program(MANY);
  await turnUntil('the program is there', () => peers.some(({ datagrams }) => datagrams.length > 0));
  const descriptors = new TakenDescriptors();
  try {
    // Room for two, or for one if something else in this process opened a file meanwhile.
    descriptors.spare(2);
    await turnUntil('all are served or refused', () => {
      answerMany(9);
      return text() !== '';
    });
    const [refused = 0, served = 0] = text().split(' ').map(Number);
    expect([7, 8]).toContain(refused);
    expect(served).toBe(9 - refused);
    expect(refusals).toEqual(Array(refused).fill('there is no file descriptor left (EMFILE)'));
    expect(loop.poll(50)).toBe(false);
  } finally {
    descriptors.end();
  }
});

test('a path that cannot be a socket is refused', () => {
  expect(() => new SeqpacketServer(loop, '', () => {})).toThrow(RangeError);
  expect(() => new SeqpacketServer(loop, `/${'x'.repeat(107)}`, () => {})).toThrow(RangeError);
});
