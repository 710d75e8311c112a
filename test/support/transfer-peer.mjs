// One end of a TCP transfer, for transfer.ts. Usage: receive <port> | send <port> <address> <bytes>
import { createCipheriv, createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { Readable } from 'node:stream';

const [role, port, address, length] = process.argv.slice(2);
const hash = createHash('sha256');
let total = 0;

function count(chunk) {
  total += chunk.length;
  hash.update(chunk);
}

function report() {
  console.log(`sha256 ${total} ${hash.digest('hex')}`);
}

if (role === 'receive') {
  const server = createServer((socket) => {
    socket.on('data', count);
    socket.on('end', () => {
      report();
      socket.end();
      server.close();
    });
  });
  server.listen(Number(port), '::', () => console.log('listening'));
} else {
  // A cipher over zeros makes bytes that cannot be guessed wrongly, fast.
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16));
  const zeros = Buffer.alloc(1 << 18);
  let left = Number(length);
  const bytes = new Readable({
    read() {
      if (left === 0) return void this.push(null);
      const chunk = cipher.update(zeros.subarray(0, Math.min(left, zeros.length)));
      left -= chunk.length;
      count(chunk);
      this.push(chunk);
    },
  });
  const socket = connect(Number(port), address);
  bytes.pipe(socket);
  socket.resume();
  socket.on('end', report);
}
