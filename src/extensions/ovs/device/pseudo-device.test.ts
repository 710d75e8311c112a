import { expect, test } from 'vitest';
import { Frame, Group } from '../abi.ts';
import { framesOf } from '../testing-memory.ts';
import { PseudoDevice } from './pseudo-device.ts';
import { UPCALLS_MAXIMUM, UPCALLS_PER_PORT } from './upcall-queue.ts';

/** A program at the other end, in memory. */
class Program {
  readonly received: Uint8Array[] = [];
  isOpen = true;
  /** Datagrams that there is room for. */
  room = Number.POSITIVE_INFINITY;

  send(frame: Uint8Array): boolean {
    if (this.room <= 0) return false;
    this.room -= 1;
    this.received.push(...framesOf(frame.slice()));
    return true;
  }

  close(): void {
    this.isOpen = false;
  }

  /** First two words of every frame. */
  get words(): [number, number][] {
    return this.received.map((frame) => {
      const view = new DataView(frame.buffer);
      return [view.getUint32(0, true), frame.length >= 8 ? view.getUint32(4, true) : -1];
    });
  }
}

function frame(kind: number, ...words: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.of(kind, ...words).buffer);
}

function world() {
  const device = new PseudoDevice((connection, datagram) => {
    for (const byte of datagram) connection.reply(frame(Frame.DATAGRAM, byte));
  });
  const program = new Program();
  return { device, program, connection: device.accept(program) };
}

test('a new connection is told a port id that no other has', () => {
  const { device, program } = world();
  const other = new Program();
  device.accept(other);
  expect(program.words[0][0]).toBe(Frame.HELLO);
  expect(other.words[0][0]).toBe(Frame.HELLO);
  expect(program.words[0][1]).not.toBe(other.words[0][1]);
});

test('all replies to a datagram come before its "done", even when there is no room at first', () => {
  const { program, connection } = world();
  program.room = 0;
  connection.onDatagram(Uint8Array.of(0, 0, 0, 0, 7, 8, 9));
  expect(program.words.slice(1)).toEqual([]);
  program.room = Number.POSITIVE_INFINITY;
  connection.onWritable();
  expect(program.words.slice(1)).toEqual([
    [Frame.DATAGRAM, 7],
    [Frame.DATAGRAM, 8],
    [Frame.DATAGRAM, 9],
    [Frame.DONE, 0],
  ]);
});

test('a notification reaches the members of its group but for the one that is left out', () => {
  const { device, program, connection } = world();
  const other = new Program();
  const otherConnection = device.accept(other);
  for (const each of [connection, otherConnection]) each.onDatagram(frame(Frame.JOIN, Group.VPORT));
  device.multicast(Group.VPORT, frame(Frame.DATAGRAM, 5), connection.port);
  device.multicast(Group.FLOW, frame(Frame.DATAGRAM, 6), 0);
  expect(program.words.at(-1)).toEqual([Frame.DONE, 0]);
  expect(other.words.at(-1)).toEqual([Frame.DATAGRAM, 5]);
  otherConnection.onDatagram(frame(Frame.LEAVE, Group.VPORT));
  expect(device.hasMembers(Group.VPORT)).toBe(true);
  device.multicast(Group.VPORT, frame(Frame.DATAGRAM, 7), 0);
  expect(other.words.at(-1)).toEqual([Frame.DONE, 0]);
});

test('a group that does not exist cannot be joined', () => {
  const { program, connection } = world();
  connection.onDatagram(frame(Frame.JOIN, 1));
  expect(program.words.at(-1)).toEqual([Frame.DONE, 2]);
});

test('upcalls of a port that floods do not keep those of another waiting, and each loss is counted', () => {
  const { device, program, connection } = world();
  program.room = 0;
  for (let i = 0; i < UPCALLS_PER_PORT + 3; i += 1) device.upcall(connection.port, 1, frame(Frame.DATAGRAM, 100 + i));
  expect(device.upcall(connection.port, 2, frame(Frame.DATAGRAM, 1))).toBe(true);
  expect(device.losses.upcallPortFull).toBe(3);
  program.room = 3;
  connection.onWritable();
  expect(program.words.slice(1).map(([, word]) => word)).toEqual([100, 1, 101]);
});

test('a socket that is not read holds a limited number of upcalls', () => {
  const { device, program, connection } = world();
  program.room = 0;
  const ports = UPCALLS_MAXIMUM / UPCALLS_PER_PORT + 1;
  let kept = 0;
  for (let port = 0; port < ports; port += 1) {
    for (let i = 0; i < UPCALLS_PER_PORT; i += 1)
      if (device.upcall(connection.port, port, frame(Frame.DATAGRAM, port))) kept += 1;
  }
  const { upcallSocketFull, upcallPortFull } = device.losses;
  expect(upcallPortFull).toBeGreaterThan(0);
  expect(kept).toBeGreaterThan(UPCALLS_MAXIMUM * 0.9);
  expect(kept).toBeLessThan(UPCALLS_MAXIMUM);
  expect(kept + upcallSocketFull + upcallPortFull).toBe(ports * UPCALLS_PER_PORT);
  connection.onClose();
  expect(device.losses.closed).toBe(kept);
  expect(device.size).toBe(0);
  expect(device.upcall(connection.port, 1, frame(Frame.DATAGRAM, 1))).toBe(false);
  expect(device.losses.upcallNoSocket).toBe(1);
});

test('notifications that are not read are limited, and counted beyond that', () => {
  const { device, program, connection } = world();
  connection.onDatagram(frame(Frame.JOIN, Group.VPORT));
  program.room = 0;
  for (let i = 0; i < 2000; i += 1) device.multicast(Group.VPORT, frame(Frame.DATAGRAM, i), 0);
  expect(device.losses.notificationFull).toBe(2000 - 1024);
});

test('a frame that is none ends the connection', () => {
  for (const bad of [Uint8Array.of(1, 0), frame(77), frame(Frame.HELLO, 1)]) {
    const { program, connection } = world();
    connection.onDatagram(bad);
    expect(program.isOpen).toBe(false);
  }
});

test('a program that was started over an open connection can ask for its port id', () => {
  const { program, connection } = world();
  connection.onDatagram(frame(Frame.WHO));
  expect(program.words.slice(1)).toEqual([
    [Frame.HELLO, connection.port],
    [Frame.DONE, 0],
  ]);
});

test('the answers to one datagram go out together, and a long one goes alone between them', () => {
  const long = new Uint8Array(40_000);
  const device = new PseudoDevice((connection, datagram) => {
    for (const byte of datagram) connection.reply(byte === 0xff ? long : frame(Frame.DATAGRAM, byte));
  });
  const sent: Uint8Array[] = [];
  const connection = device.accept({ send: (each) => sent.push(each.slice()) > 0, close: () => {} });
  connection.onDatagram(Uint8Array.of(0, 0, 0, 0, 1, 2, 0xff, 3));
  expect(sent.slice(1).map((each) => [each[0], framesOf(each).length])).toEqual([
    [Frame.BUNDLE, 2],
    [Frame.DATAGRAM, 1],
    [Frame.BUNDLE, 2],
  ]);
  expect(sent.flatMap(framesOf).map((each) => (each.length === 40_000 ? -1 : each[4]))).toEqual([
    connection.port & 0xff,
    1,
    2,
    -1,
    3,
    0,
  ]);
});

test('upcalls that may be bundled go out together, in their order, however long the program was away', () => {
  const { device, program, connection } = world();
  let next = 1;
  const upcall = (count: number, lengthWords = 1) => {
    for (let i = 0; i < count; i += 1, next += 1) {
      const words = new Array<number>(lengthWords).fill(next);
      expect(device.upcall(connection.port, 1, frame(Frame.DATAGRAM, ...words), true)).toBe(true);
    }
  };
  upcall(20);
  expect(program.words.length).toBe(1);
  device.sendUpcalls();
  expect(program.words.length).toBe(21);
  program.room = 0;
  upcall(20);
  device.sendUpcalls();
  upcall(100, 100);
  // Longer than any bundle.
  upcall(1, 12_000);
  upcall(30);
  device.sendUpcalls();
  expect(program.words.length).toBe(21);
  for (let turns = 0; program.words.length < next; turns += 1) {
    expect(turns).toBeLessThan(20);
    program.room = 1;
    connection.onWritable();
  }
  program.room = Number.POSITIVE_INFINITY;
  upcall(5);
  device.sendUpcalls();
  expect(program.words.slice(1).map(([, word]) => word)).toEqual(Array.from({ length: next - 1 }, (_, i) => i + 1));
  expect(device.losses).toEqual({
    upcallNoSocket: 0,
    upcallSocketFull: 0,
    upcallPortFull: 0,
    closed: 0,
    notificationFull: 0,
  });
});

test('bundled upcalls that wait when their socket closes are counted', () => {
  const { device, program, connection } = world();
  program.room = 0;
  for (let i = 0; i < 7; i += 1) device.upcall(connection.port, 1, frame(Frame.DATAGRAM, i), true);
  device.sendUpcalls();
  for (let i = 0; i < 3; i += 1) device.upcall(connection.port, 1, frame(Frame.DATAGRAM, i), true);
  connection.onClose();
  expect(device.losses.closed).toBe(10);
});
