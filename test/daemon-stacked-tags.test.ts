/** Frames with several VLAN tags through a switch without VLAN policies: carried as the Linux bridge carries them. */

import { writeSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NetworkNamespace } from '../src/host/index.ts';
import { TunDevice } from '../src/host/tun-device.ts';
import { must, until, World } from './daemon-world.ts';

const VIRTIO_HEADER_BYTES = 10;

let world: World;
let tap: TunDevice;
beforeEach(() => {
  world = new World();
  world.host('b');
  const namespace = NetworkNamespace.byName(world.middle);
  try {
    // What is written to it comes in through q.
    tap = namespace.run(() => TunDevice.make('q', VIRTIO_HEADER_BYTES));
  } finally {
    namespace.close();
  }
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'q', 'up');
});
afterEach(() => {
  tap.close();
  world.end();
});

/** A frame to b with these tags that is as long as said, or the shortest. */
function tagged(lengthBytes: number, ...tpids: number[]): Uint8Array {
  const frame = new Uint8Array(Math.max(lengthBytes, 60));
  frame.set([2, 0x57, 0, 0, 0, 0x62, 2, 0, 0, 0, 0, 0xaa]);
  [...tpids, 0x88b5].forEach((type, i) => {
    frame.set([type >> 8, type & 0xff, 0, 10 + i], 12 + i * 4);
  });
  return frame;
}

function received(): number {
  const shown = must('ip', '-n', world.namespace('b'), '-s', '-j', 'link', 'show', 'dev', 'eth0');
  return (JSON.parse(shown) as { stats64: { rx: { bytes: number } } }[])[0].stats64.rx.bytes;
}

/** Send twenty frames. @returns how many bytes arrived in all */
async function send(frame: Uint8Array): Promise<number> {
  const before = received();
  const written = Buffer.concat([new Uint8Array(VIRTIO_HEADER_BYTES), frame]);
  for (let i = 0; i < 20; i += 1) writeSync(tap.fileDescriptor, written);
  // The counters tell it or the wait ends: what is dropped does not come later.
  await until('they have arrived', () => received() - before >= 20 * (frame.length - 4), 1500).catch(() => undefined);
  return received() - before;
}

const FULL_QINQ = tagged(1522, 0x88a8, 0x8100);
const THREE = tagged(0, 0x88a8, 0x8100, 0x8100);
const NINE = tagged(0, ...new Array<number>(9).fill(0x8100));

test('the Linux bridge carries a full-size frame with two tags, and any number of tags', async () => {
  must('ip', '-n', world.middle, 'link', 'add', 'name', 'br', 'type', 'bridge');
  for (const port of ['q', 'b']) must('ip', '-n', world.middle, 'link', 'set', 'dev', port, 'master', 'br');
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'br', 'up');
  await until('the bridge forwards', async () => (await send(THREE)) > 0);
  for (const frame of [FULL_QINQ, THREE, NINE])
    expect(await send(frame)).toBeGreaterThanOrEqual(20 * (frame.length - 4));
  expect(await send(tagged(1523, 0x88a8, 0x8100))).toBeLessThan(1523);
});

test('so does the switch, with flows in the kernel', async () => {
  world.up(
    'ports: { q: {}, b: {} }\noffload: require\nfdb: { static: [{ mac: "02:57:00:00:00:62", vlan: 10, port: b }] }\n',
  );
  for (const frame of [FULL_QINQ, THREE, NINE]) {
    await until('the kernel carries', async () => (await send(frame)) >= 20 * (frame.length - 4));
  }
  expect(await send(tagged(1523, 0x88a8, 0x8100))).toBeLessThan(1523);
  const drops = world.json<{ reason: string }[]>('drops');
  expect(drops.map(({ reason }) => reason)).toEqual(['EXCEEDS_MTU']);
});

for (const transmit of ['sendmmsg', 'ring']) {
  test(`so does the engine alone, sending by ${transmit}`, async () => {
    world.up(`ports: { q: {}, b: { ring: { transmit: ${transmit} } } }\noffload: off\n`);
    for (const frame of [FULL_QINQ, THREE, NINE])
      expect(await send(frame)).toBeGreaterThanOrEqual(20 * (frame.length - 4));
    expect(await send(tagged(1523, 0x88a8, 0x8100))).toBeLessThan(1523);
    const drops = world.json<{ reason: string }[]>('drops');
    expect(drops.map(({ reason }) => reason)).toEqual(['EXCEEDS_MTU']);
  });
}
