import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  addressOf,
  Clock,
  ClockId,
  Errno,
  errnoName,
  eventfd,
  FileDescriptor,
  Mmap,
  mmap,
  NativeBlock,
  nativeView,
  Open,
  open,
  openDescriptors,
  peerCredentials,
  read,
  SystemError,
  write,
} from './index.ts';

test('an error names call, errno, what was done and what to do', () => {
  const error = new SystemError('socket', Errno.EPERM, 'open a packet socket');
  expect(error.message).toBe(
    'cannot open a packet socket: socket failed with EPERM (needs CAP_NET_RAW: run as root, or in a user namespace of your own)',
  );
  expect(error.finding).toBe('cannot open a packet socket: socket failed with EPERM');
  expect(new SystemError('bind', Errno.EFAULT, 'bind').message).toBe('cannot bind: bind failed with EFAULT');
  expect(errnoName(Errno.EBADFD)).toBe('EBADFD');
  expect(errnoName(4000)).toBe('E4000');
});

test('errors of real calls carry their errno', () => {
  expect(() => open('/nonexistent/file', Open.RDONLY)).toThrow(
    /cannot open \/nonexistent\/file: open failed with ENOENT/,
  );
  try {
    open('/', Open.WRONLY);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(SystemError);
    expect(error).toMatchObject({ code: 'EISDIR', call: 'open' });
  }
});

test('a descriptor closes once, and is counted', () => {
  const files = (): number => readdirSync('/proc/self/fd').length;
  const before = { files: files(), open: openDescriptors() };
  const descriptor = eventfd();
  expect(openDescriptors()).toBe(before.open + 1);
  descriptor.close();
  expect(descriptor.number).toBe(-1);
  const other = eventfd();
  descriptor.close();
  expect(read(other.number, new Uint8Array(8))).toBe(-1);
  other.close();
  expect({ files: files(), open: openDescriptors() }).toEqual(before);
  expect(() => new FileDescriptor(-1)).toThrow(RangeError);
});

test('what is written to a descriptor is read from it', () => {
  const descriptor = eventfd();
  const bytes = new Uint8Array(8);
  expect(read(descriptor.number, bytes)).toBe(-1);
  write(descriptor.number, new Uint8Array(new BigUint64Array([77n]).buffer));
  expect(read(descriptor.number, bytes)).toBe(8);
  expect(new BigUint64Array(bytes.buffer)[0]).toBe(77n);
  descriptor.close();
});

test('addresses are stored as the kernel reads them', () => {
  const block = new NativeBlock(24);
  block.setAddress(8, 0x7fff_1234_5678);
  expect(new BigUint64Array(block.bytes.buffer, 8, 1)[0]).toBe(0x7fff_1234_5678n);
  expect(block.address).toBe(addressOf(block.bytes));
  expect(block.address % 8).toBe(0);
  const seen = new Uint8Array(nativeView(block.address, 24));
  expect(seen[8]).toBe(block.bytes[8]);
});

test('strings are cut to their room and end with a zero', () => {
  const block = new NativeBlock(32);
  block.setString(0, 16, 'a name that is far too long');
  expect(block.getString(0, 16)).toBe('a name that is ');
  expect(block.bytes[15]).toBe(0);
  block.setString(0, 16, 'eth0');
  expect(block.getString(0, 16)).toBe('eth0');
});

test('a mapping shares memory, and its views are harmless after it ended', () => {
  const fd = open('/dev/zero', Open.RDWR);
  const mapping = mmap(fd.number, 8192, { flags: Mmap.PRIVATE, doing: 'map zeros' });
  const bytes = new Uint8Array(mapping.buffer);
  bytes[5000] = 7;
  expect(new Uint8Array(nativeView(mapping.address, 8192))[5000]).toBe(7);
  mapping.unmap();
  mapping.unmap();
  expect(bytes[5000]).toBe(0);
  bytes[5000] = 8;
  fd.close();
  expect(() => mmap(-1, 4096, { doing: 'map nothing' })).toThrow(/cannot map nothing: mmap failed with EBADF/);
});

test('clocks tell the time', () => {
  const wall = new Clock(ClockId.REALTIME);
  expect(Math.abs(wall.milliseconds() - Date.now())).toBeLessThan(1000);
  const steady = new Clock(ClockId.MONOTONIC);
  const first = steady.milliseconds();
  expect(steady.milliseconds()).toBeGreaterThanOrEqual(first);
  expect(steady.nanoseconds).toBeLessThan(1e9);
});

test('a Unix socket tells who is at its other end', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-'));
  const server = createServer().listen(join(directory, 's'));
  await once(server, 'listening');
  const client = connect(join(directory, 's'));
  const [connection] = await once(server, 'connection');
  expect(peerCredentials(connection._handle.fd)).toEqual({
    pid: process.pid,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
  });
  client.destroy();
  server.close();
  rmSync(directory, { recursive: true });
  expect(() => peerCredentials(-1)).toThrow(
    /cannot ask who is at the other end of a Unix socket: getsockopt failed with EBADF/,
  );
});
