/**
 * Both ends of many short connections, for connections.ts.
 *
 *     node short-peer.mjs serve FIRST PORTS                            prints "listening"
 *     node short-peer.mjs ask ADDRESS FIRST PORTS AT_ONCE MOST_A_SECOND      prints what was done, a JSON line each second; SIGTERM ends it when the last connection has
 *
 * A TCP connection: the asker sends how it is to end (1 byte), a length (4 bytes) and so many bytes; the server sends them back; the asker says that it has them (1 byte); then one of both
 * closes or resets. A datagram comes back as it is.
 */
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';

const ENDS = ['asker closes', 'server closes', 'asker resets', 'server resets'];
const HEADER = 5;
const LONGEST = 60_000;
const PATIENCE_MS = 20_000;

function serve(first, ports) {
  let missing = 2 * ports;
  const heard = () => {
    missing -= 1;
    if (missing === 0) console.log('listening');
  };
  for (let port = first; port < first + ports; port += 1) {
    createServer({ allowHalfOpen: false }, (socket) => {
      let header = Buffer.alloc(0);
      let left = -1;
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        let data = chunk;
        if (left < 0) {
          header = Buffer.concat([header, data]);
          if (header.length < HEADER) return;
          left = header.readUInt32BE(1);
          data = header.subarray(HEADER);
        }
        const body = data.subarray(0, left);
        left -= body.length;
        if (body.length > 0) socket.write(body);
        // The byte behind the body says that it has come back.
        if (data.length === body.length) return;
        if (header[0] === 1) socket.end();
        else if (header[0] === 3) socket.resetAndDestroy();
      });
    }).listen(port, heard);
    const datagrams = createSocket('udp4');
    datagrams.on('message', (message, { port: from, address }) => datagrams.send(message, from, address));
    datagrams.bind(port, heard);
  }
}

function stream(address, port) {
  return new Promise((resolve, reject) => {
    const end = Math.floor(Math.random() * ENDS.length);
    const body = Buffer.alloc(1 + Math.floor(Math.random() ** 4 * LONGEST), port & 0xff);
    const header = Buffer.alloc(HEADER);
    header[0] = end;
    header.writeUInt32BE(body.length, 1);
    let left = body.length;
    let isOver = false;
    const socket = connect({ host: address, port });
    socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error('nothing came for too long')));
    socket.on('connect', () => socket.write(Buffer.concat([header, body])));
    socket.on('data', (data) => {
      left -= data.length;
      if (left > 0) return;
      isOver = left === 0;
      socket.write('k');
      if (end === 0) socket.end();
      else if (end === 2) socket.resetAndDestroy();
    });
    socket.on('error', (error) => {
      if (!(isOver && end === 3 && error.code === 'ECONNRESET'))
        reject(new Error(`port ${port}, ${ENDS[end]}: ${error.message}`));
    });
    socket.on('close', () =>
      isOver ? resolve() : reject(new Error(`port ${port}, ${ENDS[end]}: ${left} bytes were missing`)),
    );
  });
}

/** One datagram and its answer; one that is lost is sent again, as any program would. */
function datagram(address, port) {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    let attempts = 0;
    const send = () => {
      attempts += 1;
      if (attempts <= 5) return socket.send('?', port, address);
      clearInterval(again);
      socket.close();
      return reject(new Error(`port ${port}: no answer to ${attempts - 1} datagrams`));
    };
    const again = setInterval(send, 1000);
    socket.on('message', () => {
      clearInterval(again);
      socket.close();
      resolve();
    });
    send();
  });
}

async function ask(address, first, ports, atOnce, most) {
  const told = { done: 0, failed: 0, why: [] };
  let isEnding = false;
  process.once('SIGTERM', () => {
    isEnding = true;
  });
  const tell = () => console.log(JSON.stringify(told));
  const beat = setInterval(tell, 1000);
  const begunMs = performance.now();
  let begun = 0;
  const one = async () => {
    while (!isEnding) {
      const earlyMs = (begun * 1000) / most - (performance.now() - begunMs);
      if (earlyMs > 0) {
        await new Promise((resume) => setTimeout(resume, Math.min(earlyMs, 100)));
        continue;
      }
      begun += 1;
      const port = first + Math.floor(Math.random() * ports);
      try {
        await (Math.random() < 0.1 ? datagram : stream)(address, port);
        told.done += 1;
      } catch (error) {
        told.failed += 1;
        if (told.why.length < 10) told.why.push(error.message);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  clearInterval(beat);
  tell();
}

const [what, ...rest] = process.argv.slice(2);
if (what === 'serve') serve(Number(rest[0]), Number(rest[1]));
else await ask(rest[0], Number(rest[1]), Number(rest[2]), Number(rest[3]), Number(rest[4]));
