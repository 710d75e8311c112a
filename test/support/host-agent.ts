/**
 * A host of frames for scenarios: holds an interface with the kernel kept off it, sends what it is told and keeps what comes. Run in
 * the host's namespace; commands come as JSON lines: { "send": [hex, ...], "gapUs": n } and { "take": true }, which is answered with
 * the frames since the last time.
 */
import { createInterface } from 'node:readline';
import { openPacketSocket } from '../../src/host/index.ts';
import { Batch, PacketPool, TagAction } from '../../src/net/index.ts';

const socket = openPacketSocket({ interfaceName: process.argv[2] ?? 'eth0', receiveSlots: 240 });
const pool = new PacketPool({ packets: 64, bufferBytes: 2048 });
const batch = new Batch();
let kept: string[] = [];

/** Frames with their tag where it belongs. */
function collect(): void {
  while (socket.receive(batch, 64) > 0) {
    for (let i = 0; i < batch.count; i += 1) kept.push(Buffer.from(batch.packets[i].frame()).toString('hex'));
    batch.releaseAll();
  }
}

function send(frames: readonly string[]): void {
  for (const hex of frames) {
    const packet = pool.allocate();
    if (packet === null) throw new Error('no packet is left');
    const bytes = Buffer.from(hex, 'hex');
    packet.bytes.set(bytes, packet.offset);
    packet.length = bytes.length;
    socket.transmit(packet, TagAction.KEEP);
    socket.flush();
    packet.release();
    collect();
  }
}

setInterval(collect, 2);
process.stdout.write('ready\n');
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line) as { send?: string[]; take?: boolean };
    if (command.send !== undefined) send(command.send);
    if (command.take === true) {
      collect();
      process.stdout.write(`${JSON.stringify(kept)}\n`);
      kept = [];
    } else process.stdout.write('[]\n');
  })
  .on('close', () => process.exit(0));
