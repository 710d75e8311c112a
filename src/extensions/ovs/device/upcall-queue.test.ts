import { expect, test } from 'vitest';
import { Queued, UPCALLS_MAXIMUM, UPCALLS_PER_PORT, UpcallQueue } from './upcall-queue.ts';

/** Upcalls of a port, as many as there is room for. @returns how many that were */
function flood(queue: UpcallQueue, port: number): number {
  let count = 0;
  while (queue.roomFor(port) === Queued.YES) {
    queue.add(port, Uint8Array.of(port & 255, port >> 8));
    count += 1;
  }
  return count;
}

test('one port that floods has its own queue full, and no more', () => {
  const queue = new UpcallQueue();
  expect(flood(queue, 1)).toBe(UPCALLS_PER_PORT);
  expect(queue.roomFor(1)).toBe(Queued.PORT_FULL);
  expect(queue.roomFor(2)).toBe(Queued.YES);
});

test('however many ports flood, there is room for one more, and its turn comes with the first', () => {
  const queue = new UpcallQueue();
  const ports = Array.from({ length: 300 }, (_, i) => i + 1);
  // Ports that were there before have more at first.
  for (let round = 0; round < 200; round += 1) {
    for (const port of ports) flood(queue, port);
    let room = ports.length;
    queue.drain(() => {
      room -= 1;
      return room >= 0;
    });
  }
  for (const port of ports) flood(queue, port);
  expect(queue.size).toBeLessThan(UPCALLS_MAXIMUM);
  expect(flood(queue, 999)).toBeGreaterThan(5);
  const order: number[] = [];
  queue.drain((frame) => order.push(frame[0] | (frame[1] << 8)) < 400);
  expect(order.indexOf(999)).toBeGreaterThan(-1);
  expect(order.indexOf(999)).toBeLessThanOrEqual(ports.length);
});
