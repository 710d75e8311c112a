/** The control socket against clients that nest, batch and mix: each gets an answer, nothing leaks, and the daemon goes on. */
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until, World } from './daemon-world.ts';

let world: World;
const sockets: Socket[] = [];
beforeEach(() => {
  world = new World();
  world.up('ports: { m: { kind: memory } }\n');
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await world.end();
});

/** A connection and what has come on it so far. */
function open(): { socket: Socket; text: () => string; isClosed: () => boolean } {
  const socket = connect(world.socket);
  sockets.push(socket);
  let text = '';
  let closed = false;
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  socket.on('close', () => {
    closed = true;
  });
  socket.on('error', () => {});
  return { socket, text: () => text, isClosed: () => closed };
}

const call = (id: number, method: string, params: unknown = {}) => ({ jsonrpc: '2.0', id, method, params });

/** Send one line. @returns the first that comes back */
async function ask(message: unknown): Promise<unknown> {
  const { socket, text } = open();
  socket.write(`${typeof message === 'string' ? message : JSON.stringify(message)}\n`);
  await until('an answer', () => text().includes('\n'));
  socket.destroy();
  return JSON.parse(text().split('\n')[0]);
}

test('arguments that nest deeply are refused, on the socket and in a file, and the daemon goes on', async () => {
  for (const depth of [100, 2_000, 20_000]) {
    const nested = `${'['.repeat(depth)}${']'.repeat(depth)}`;
    const request = `{"jsonrpc":"2.0","id":1,"method":"extension.command","params":{"name":"learning","command":"x","args":${nested}}}`;
    expect(await ask(request)).toMatchObject({ error: { message: 'this request nests deeper than 64 levels' } });
    const text = `extensions: [{ name: learning, config: { a: ${nested} } }]\n`;
    expect(await ask(call(1, 'config.apply', { file: '/x.yaml', text }))).toMatchObject({
      error: { message: expect.stringContaining('the configuration nests deeper than 64 levels') },
    });
  }
  world.ok('status');
});

test('captures of a batch are refused, and none stays behind', async () => {
  const capture = (id: number) => call(id, 'capture', { format: 'json' });
  for (let round = 0; round < 3; round += 1) {
    const replies = (await ask(Array.from({ length: 9 }, (_, id) => capture(id)))) as { error: { message: string } }[];
    expect(replies.map(({ error }) => error.message)).toEqual(Array(9).fill('capture cannot be one of a batch'));
  }
  // Connections that end in the middle of being given one release it, too.
  for (let i = 0; i < 20; i += 1) {
    const { socket } = open();
    socket.write(`${JSON.stringify(capture(i))}\n`);
    if (i % 2 === 0) socket.end();
    else socket.once('connect', () => socket.destroy());
  }
  await until('a capture is possible', async () => 'result' in ((await ask(capture(1))) as object));
});

test('a connection carries events or a capture, and never both', async () => {
  const { socket, text } = open();
  const lines = [call(1, 'events.subscribe'), call(2, 'capture', { format: 'pcapng' }), call(3, 'config.show')];
  socket.write(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  await until('three answers', () => text().split('\n').length > 3);
  const answers = text()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(answers[1].error).toMatchObject({
    message: expect.stringContaining('carries events'),
    data: { kind: 'refused' },
  });
  expect(answers[2].id).toBe(3);
  world.ok('port', 'add', 'n', '--kind', 'memory');
  await until('the event of it', () => text().includes('"port-added"'));
});

test('a capture goes on when its port is deleted, and ends with its connection', async () => {
  const { socket, text } = open();
  socket.write(`${JSON.stringify(call(1, 'capture', { format: 'json', ports: ['m'] }))}\n`);
  await until('it runs', () => text().includes('\n'));
  const frame = `ffffffffffff0200000000010800${'00'.repeat(46)}`;
  world.ok('inject', 'm', frame);
  await until('the packet', () => text().includes('"port":"m"'));
  world.ok('port', 'del', 'm');
  socket.end();
  await until('its end', () => text().includes('"end":true'));
  world.ok('status');
});
