import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { Dispatcher, MAX_BATCH, type Method } from './dispatch.ts';
import { Failure } from './failure.ts';
import { LineReader, MAX_REQUEST_BYTES } from './lines.ts';
import { flawOf } from './plain-data.ts';
import { type Connection, peerAllowed, RpcServer } from './server.ts';

const methods = new Map<string, Method<unknown>>([
  [
    'add',
    {
      params: z.strictObject({ a: z.number(), b: z.number() }),
      call: (p) => (p as { a: number; b: number }).a + (p as { b: number }).b,
    },
  ],
  ['refuse', { params: z.strictObject({}), call: () => Promise.reject(new Failure('refused', 'no', 'ask again')) }],
  ['break', { params: z.strictObject({}), call: () => JSON.parse('{') }],
  ['echo', { params: z.unknown(), call: (params) => params }],
  ['take', { params: z.unknown(), takesOver: true, call: () => 'taken' }],
  ['unprintable', { params: z.strictObject({}), call: () => 1n }],
]);
const internal: string[] = [];
const dispatcher = new Dispatcher(methods, (method) => internal.push(method));
const ask = async (text: string) => {
  const answer = await dispatcher.answer(text, null);
  return answer === null ? null : JSON.parse(answer);
};

test('a call is answered with its id', async () => {
  expect(await ask('{"jsonrpc":"2.0","id":"x","method":"add","params":{"a":1,"b":2}}')).toEqual({
    jsonrpc: '2.0',
    id: 'x',
    result: 3,
  });
});

test('a notification is carried out and not answered', async () => {
  expect(await ask('{"jsonrpc":"2.0","method":"add","params":{"a":1,"b":2}}')).toBeNull();
  expect(await ask('[{"jsonrpc":"2.0","method":"add","params":{"a":1,"b":2}}]')).toBeNull();
});

test('each way of being wrong has its code of the standard', async () => {
  const code = async (text: string) => (await ask(text)).error.code;
  expect(await code('{')).toBe(-32700);
  expect(await code('1')).toBe(-32600);
  expect(await code('[]')).toBe(-32600);
  expect(await code('{"jsonrpc":"1.0","id":1,"method":"add"}')).toBe(-32600);
  expect(await code('{"jsonrpc":"2.0","id":1,"method":"nothing"}')).toBe(-32601);
  expect(await code('{"jsonrpc":"2.0","id":1,"method":"add","params":{"a":1}}')).toBe(-32602);
  expect(await code('{"jsonrpc":"2.0","id":1,"method":"break"}')).toBe(-32603);
});

test('a failure carries kind and hint', async () => {
  expect((await ask('{"jsonrpc":"2.0","id":1,"method":"refuse"}')).error).toEqual({
    code: 4,
    message: 'no',
    data: { kind: 'refused', hint: 'ask again' },
  });
});

test('a batch is answered in order, with one reply for each request that wants one', async () => {
  const replies = await ask(
    '[{"jsonrpc":"2.0","id":1,"method":"add","params":{"a":1,"b":1}},7,{"jsonrpc":"2.0","id":2,"method":"refuse"}]',
  );
  expect(replies.map((reply: { id: unknown }) => reply.id)).toEqual([1, null, 2]);
  const huge = JSON.stringify(Array(MAX_BATCH + 1).fill(0));
  expect((await ask(huge)).error.code).toBe(-32600);
});

test('a result that cannot be written is an internal error and not a crash', async () => {
  expect((await ask('{"jsonrpc":"2.0","id":1,"method":"unprintable"}')).error.code).toBe(-32603);
});

test('whatever is sent, the answer is a well-formed reply or none', async () => {
  const pieces = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    '"jsonrpc"',
    ':',
    '"2.0"',
    ',',
    '"method"',
    '"add"',
    '"id"',
    '1',
    'null',
    '"params"',
    ' ',
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(pieces, { maxLength: 30 }).map((parts) => parts.join('')),
    fc.json(),
    fc
      .record({
        jsonrpc: fc.constant('2.0'),
        id: fc.jsonValue(),
        method: fc.constantFrom('add', 'refuse'),
        params: fc.jsonValue(),
      })
      .map((value) => JSON.stringify(value)),
  );
  await fc.assert(
    fc.asyncProperty(text, async (line) => {
      const reply = await ask(line);
      for (const one of Array.isArray(reply) ? reply : [reply]) {
        if (one === null) continue;
        expect(one.jsonrpc).toBe('2.0');
        expect('result' in one).not.toBe('error' in one);
      }
    }),
  );
});

test('deep nesting is answered like any other nonsense', async () => {
  const depth = 200_000;
  const reply = await ask(`${'['.repeat(depth)}${']'.repeat(depth)}`);
  expect(reply.error.message).toBe('this request nests deeper than 64 levels');
  const params = (levels: number) =>
    `{"jsonrpc":"2.0","id":1,"method":"echo","params":${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}}`;
  for (const levels of [depth, 2000, 64]) expect((await ask(params(levels))).error.code).toBe(-32600);
  expect((await ask(params(63))).result).toBeDefined();
  // What looks like nesting inside of a text is none.
  expect(
    (await ask(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'echo', params: '['.repeat(1000) }))).result,
  ).toHaveLength(1000);
});

test('a key that is the prototype for some is refused wherever it is', async () => {
  for (const params of ['{"__proto__":{"a":1}}', '{"a":[{"__proto__":null}]}']) {
    const reply = await ask(`{"jsonrpc":"2.0","id":1,"method":"echo","params":${params}}`);
    expect(reply.error.message).toBe('this request has a key "__proto__"');
  }
});

test('data that holds itself is walked once a level', () => {
  const circular: unknown[] = [1];
  circular.push(circular, circular, { circular });
  expect(flawOf(circular)).toBe('nests deeper than 64 levels');
  let shared: unknown = [];
  for (let i = 0; i < 60; i += 1) shared = [shared, shared];
  expect(flawOf(shared)).toBeNull();
});

test('a method that takes the connection over is refused in a batch, and the others of the batch are carried out', async () => {
  const replies = await ask(
    '[{"jsonrpc":"2.0","id":1,"method":"take"},{"jsonrpc":"2.0","id":2,"method":"echo","params":7},{"jsonrpc":"2.0","id":3,"method":"take"}]',
  );
  expect(
    replies.map((reply: { result?: unknown; error?: { message: string } }) => reply.result ?? reply.error?.message),
  ).toEqual(['take cannot be one of a batch', 7, 'take cannot be one of a batch']);
  expect((await ask('{"jsonrpc":"2.0","id":1,"method":"take"}')).result).toBe('taken');
});

test('lines are cut the same however the bytes arrive', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string().map((s) => s.replaceAll('\n', ''))),
      fc.array(fc.integer({ min: 1, max: 7 })),
      (lines, cuts) => {
        const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
        const reader = new LineReader(10_000);
        const seen: string[] = [];
        let at = 0;
        for (let i = 0; at < bytes.length; i += 1) {
          const length = cuts.length === 0 ? 3 : cuts[i % cuts.length];
          seen.push(...(reader.push(bytes.subarray(at, at + length)) ?? []));
          at += length;
        }
        expect(seen).toEqual(lines.map((line) => Buffer.from(line).toString()));
      },
    ),
  );
});

test('a line beyond the limit is refused, in one piece or in many', () => {
  expect(new LineReader(4).push(Buffer.from('12345\n'))).toBeNull();
  const reader = new LineReader(4);
  expect(reader.push(Buffer.from('123'))).toEqual([]);
  expect(reader.push(Buffer.from('45'))).toBeNull();
  expect(new LineReader(4).push(Buffer.from('1234\n'))).toEqual(['1234']);
});

test('root and the own user may speak to the daemon, others not', () => {
  expect(peerAllowed({ pid: 1, uid: 0, gid: 0 }, 1000)).toBe(true);
  expect(peerAllowed({ pid: 1, uid: 1000, gid: 0 }, 1000)).toBe(true);
  expect(peerAllowed({ pid: 1, uid: 1001, gid: 0 }, 1000)).toBe(false);
  expect(peerAllowed({ pid: 1, uid: 1001, gid: 0 }, 0)).toBe(false);
});

let folder = '';
let server: RpcServer;
const refused: unknown[] = [];
let peerUid = 0;
let full = 0;
const serverMethods = new Map<string, Method<Connection>>([
  ['echo', { params: z.unknown(), call: (params) => params }],
  [
    'stream',
    {
      params: z.unknown(),
      call: (_params, connection) => {
        connection.takeOver((socket) => {
          socket.write('raw');
          socket.on('end', () => socket.end('end'));
        });
        return 'follows';
      },
    },
  ],
  [
    'flood',
    {
      params: z.unknown(),
      call: (_params, connection) => {
        for (let i = 0; i < 200; i += 1) connection.notify('event', 'x'.repeat(100_000));
        return null;
      },
    },
  ],
]);

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-rpc-'));
  refused.length = 0;
  full = 0;
  peerUid = process.geteuid?.() ?? 0;
  server = new RpcServer({
    path: join(folder, 'sock'),
    methods: serverMethods,
    peerOf: () => ({ pid: 1, uid: peerUid, gid: 0 }),
    onRefusedPeer: (peer) => refused.push(peer),
    onInternal: () => {},
    onFull: () => {
      full += 1;
    },
  });
  await server.listen();
});
afterEach(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

function open(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(join(folder, 'sock'), () => resolve(socket));
    socket.once('error', reject);
  });
}

/** Everything that comes until the other side closes. */
function readAll(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.on('close', () => resolve(text));
  });
}

const request = (id: number, method: string, params: unknown = {}) =>
  `${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`;

test('the socket belongs to its user alone and is gone after closing', async () => {
  expect(statSync(join(folder, 'sock')).mode & 0o777).toBe(0o600);
});

test('a stale socket file is replaced; another file stays, also when it takes the place of the socket', async () => {
  const path = join(folder, 'stale');
  spawnSync('python3', ['-c', `import socket; s = socket.socket(socket.AF_UNIX); s.bind('${path}'); s.listen(1)`]);
  expect(statSync(path).isSocket()).toBe(true);
  const serverAt = (where: string) =>
    new RpcServer({
      path: where,
      methods: serverMethods,
      peerOf: () => null,
      onRefusedPeer: () => {},
      onInternal: () => {},
    });
  const second = serverAt(path);
  await second.listen();
  await second.close();
  expect(existsSync(path)).toBe(false);
  writeFileSync(path, 'precious');
  const third = serverAt(path);
  await expect(third.listen()).rejects.toThrow(`${path} is an ordinary file, and not a socket`);
  expect(readFileSync(path, 'utf8')).toBe('precious');
  rmSync(path);
  const fourth = serverAt(path);
  await fourth.listen();
  rmSync(path);
  writeFileSync(path, 'precious');
  await fourth.close();
  expect(readFileSync(path, 'utf8')).toBe('precious');
});

test('requests in one piece, and a last one before the end, are all answered in order', async () => {
  const socket = await open();
  const all = readAll(socket);
  socket.end(Array.from({ length: 300 }, (_, i) => request(i, 'echo', i)).join(''));
  const ids = (await all)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).id);
  expect(ids).toEqual(Array.from({ length: 300 }, (_, i) => i));
});

test('a request that is too long is refused and the connection closed', async () => {
  const socket = await open();
  const all = readAll(socket);
  socket.on('error', () => {});
  socket.write('x'.repeat(MAX_REQUEST_BYTES + 2));
  expect(JSON.parse(await all).error.data.kind).toBe('invalid-request');
});

test('a peer of another user is refused', async () => {
  peerUid = 4_000_000;
  if ((process.geteuid?.() ?? 0) === peerUid) throw new Error('this test needs another uid');
  const socket = await open();
  expect(await readAll(socket)).toBe('');
  expect(refused).toHaveLength(1);
});

test('a peer that never reads is cut off instead of filling memory', async () => {
  const socket = await open();
  socket.pause();
  socket.write(request(1, 'flood'));
  const deadline = Date.now() + 5_000;
  while (server.connections > 0 && Date.now() < deadline) await new Promise((resume) => setTimeout(resume, 10));
  expect(server.connections).toBe(0);
  socket.destroy();
});

test('a connection that subscribes again has one subscription, which ends with it', async () => {
  let running = 0;
  serverMethods.set('subscribe', {
    params: z.unknown(),
    call: (_params, connection) => {
      running += 1;
      connection.subscribe(() => {
        running -= 1;
      });
      return connection.isSubscribed;
    },
  });
  const socket = await open();
  const all = readAll(socket);
  socket.end(`${request(1, 'subscribe')}${request(2, 'subscribe')}`);
  expect((await all).match(/"result":true/g)).toHaveLength(2);
  const deadline = Date.now() + 5_000;
  while (running > 0 && Date.now() < deadline) await new Promise((resume) => setTimeout(resume, 10));
  expect(running).toBe(0);
});

test('one connection more than there may be is told so, and there is room again when one ends', async () => {
  const sockets: Socket[] = [];
  for (let i = 0; i < 64; i += 1) sockets.push(await open());
  const deadline = Date.now() + 5_000;
  while (server.connections < 64 && Date.now() < deadline) await new Promise((resume) => setTimeout(resume, 10));
  expect(JSON.parse(await readAll(await open())).error).toMatchObject({
    message: 'the control socket serves 64 connections already',
    data: { kind: 'busy' },
  });
  expect(full).toBe(1);
  for (const socket of sockets) socket.destroy();
  while (server.connections > 0 && Date.now() < deadline) await new Promise((resume) => setTimeout(resume, 10));
  const socket = await open();
  const all = readAll(socket);
  socket.end(request(7, 'echo', 'room'));
  expect(JSON.parse(await all).result).toBe('room');
});

test('a method can take the connection over, and the peer ends the stream by ending its side', async () => {
  const socket = await open();
  const all = readAll(socket);
  socket.end(request(1, 'stream'));
  const text = await all;
  expect(text.split('\n')[0]).toContain('follows');
  expect(text.split('\n')[1]).toBe('rawend');
});

test('garbage, half messages and vanishing peers leave the server serving', async () => {
  for (let i = 0; i < 40; i += 1) {
    const socket = await open();
    socket.on('error', () => {});
    socket.write(
      i % 2 === 0
        ? Buffer.from(Array.from({ length: 500 }, () => Math.floor(Math.random() * 256)))
        : '{"jsonrpc":"2.0","id"',
    );
    socket.destroy();
  }
  const socket = await open();
  const all = readAll(socket);
  socket.end(request(7, 'echo', 'still here'));
  expect(JSON.parse(await all).result).toBe('still here');
});
