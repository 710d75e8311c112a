import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PacketPool } from '../pool.ts';
import { CaptureError } from './error.ts';
import { PcapWriter } from './pcap-writer.ts';
import { type AnnotatedPacket, type InterfaceToWrite, PcapngWriter, type SectionToWrite } from './pcapng-writer.ts';
import { CaptureReader, readCapture } from './reader.ts';
import { type CapturePacket, type CaptureRecord, Direction, MICROSECONDS, NANOSECONDS } from './types.ts';

const fixture = (name: string): Uint8Array => readFileSync(new URL(`./fixtures/${name}`, import.meta.url));

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(chunks));
}

/** What a writer produces. */
function written(write: (sink: (chunk: Uint8Array) => void) => { flush(): void }): Uint8Array {
  const chunks: Uint8Array[] = [];
  write((chunk) => chunks.push(chunk)).flush();
  return joined(chunks);
}

function pieces(bytes: Uint8Array, size: number): Uint8Array[] {
  const list: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += size) list.push(bytes.subarray(at, at + size));
  return list;
}

function records(bytes: Uint8Array, size = bytes.length): CaptureRecord[] {
  return [...readCapture(pieces(bytes, Math.max(1, size)))];
}

function packets(list: CaptureRecord[]): CapturePacket[] {
  return list.flatMap((record) => (record.kind === 'packet' ? [record.packet] : []));
}

function failure(bytes: Uint8Array): { error: CaptureError; read: CapturePacket[] } {
  const read: CaptureRecord[] = [];
  try {
    for (const record of readCapture([bytes])) read.push(record);
  } catch (error) {
    if (error instanceof CaptureError) return { error, read: packets(read) };
    throw error;
  }
  throw new Error('nothing was thrown');
}

const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex');

test('what tcpdump wrote is read: microseconds, nanoseconds, a snap length', () => {
  const micro = packets(records(fixture('tcpdump-micro.pcap')));
  const nano = packets(records(fixture('tcpdump-nano.pcap')));
  expect(micro.map(({ seconds, nanoseconds }) => [seconds, nanoseconds])).toEqual([
    [1795233985, 565108000],
    [1795233985, 565122000],
    [1795233985, 768728000],
    [1795233985, 768743000],
  ]);
  expect(nano.map(({ nanoseconds }) => nanoseconds)).toEqual([565108871, 565122622, 768728405, 768743868]);
  expect(nano.map(({ data, originalLengthBytes }) => [data.length, originalLengthBytes])).toEqual(
    new Array(4).fill([64, 98]),
  );
  expect(hex(nano[2].data)).toBe(hex(micro[2].data.subarray(0, 64)));
  expect(micro[0].interface).toMatchObject({ linkType: 1, resolution: MICROSECONDS });
});

test('what dumpcap wrote is read: section, two interfaces, packets of both, statistics', () => {
  const list = records(fixture('dumpcap-two-interfaces.pcapng'));
  expect(list.map((record) => record.kind)).toEqual([
    'section',
    'interface',
    'interface',
    ...new Array(7).fill('packet'),
    'statistics',
    'statistics',
  ]);
  expect(list[0]).toMatchObject({
    section: { format: 'pcapng', operatingSystem: 'Linux 6.18.44-generic', hardware: expect.any(String) },
  });
  expect(list[2]).toMatchObject({ interface: { index: 1, name: 'va', filter: 'arp', snapLengthBytes: 262144 } });
  const read = packets(list);
  expect(read.map((packet) => packet.interface.name)).toEqual(['lo', 'lo', 'lo', 'lo', 'va', 'va', 'va']);
  expect(read[4]).toMatchObject({ seconds: 1795233985, nanoseconds: 776026194, originalLengthBytes: 42 });
  expect(list[10]).toMatchObject({ statistics: { received: expect.any(Number), dropped: 0 } });
});

test('the comment that editcap put on a packet is read', () => {
  const read = packets(records(fixture('editcap-comment.pcapng')));
  expect(read.map((packet) => packet.comments)).toEqual([['a comment on the first packet'], [], [], [], [], [], []]);
});

test('chunks of any size give the same records', () => {
  for (const name of ['tcpdump-nano.pcap', 'dumpcap-two-interfaces.pcapng']) {
    const whole = records(fixture(name));
    for (const size of [1, 3, 16, 100]) expect(records(fixture(name), size)).toEqual(whole);
  }
});

const data = fc.uint8Array({ maxLength: 200 });
const comments = fc.array(fc.string({ unit: 'grapheme', maxLength: 9 }), { maxLength: 2 });
const time = { seconds: fc.nat(0xffff_ffff), nanoseconds: fc.nat(999_999_999) };

test('pcap is read back as written, in both byte orders and both resolutions', () => {
  const list = fc.array(fc.record({ ...time, data, originalLengthBytes: fc.nat(300) }), { maxLength: 6 });
  fc.assert(
    fc.property(
      list,
      fc.boolean(),
      fc.boolean(),
      fc.integer({ min: 1, max: 64 }),
      (input, littleEndian, nano, size) => {
        const bytes = written((sink) => {
          const writer = new PcapWriter(sink, { littleEndian, nanoseconds: nano, linkType: 101 });
          for (const packet of input) writer.packet(packet);
          return writer;
        });
        const [section, on, ...rest] = records(bytes, size);
        expect(section).toMatchObject({ section: { format: 'pcap', littleEndian } });
        expect(on).toMatchObject({ interface: { linkType: 101, resolution: nano ? NANOSECONDS : MICROSECONDS } });
        expect(packets(rest)).toMatchObject(
          input.map((packet) => ({
            ...packet,
            nanoseconds: nano ? packet.nanoseconds : Math.floor(packet.nanoseconds / 1000) * 1000,
            originalLengthBytes: Math.max(packet.data.length, packet.originalLengthBytes),
          })),
        );
      },
    ),
  );
});

test('pcapng is read back as written, in both byte orders, with all that can be said', () => {
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
  const text = maybe(fc.string({ unit: 'grapheme', maxLength: 20 }));
  const sections = fc.record({ littleEndian: fc.boolean(), hardware: text, application: text, comments });
  const interfaces = fc.record({
    linkType: fc.nat(0xffff),
    offsetSeconds: fc.constantFrom(0, 5, -5),
    name: text,
    description: text,
    filter: text,
    macAddress: maybe(fc.uint8Array({ minLength: 6, maxLength: 6 })),
    speedBps: maybe(fc.maxSafeNat()),
    comments,
  });
  const inputs = fc.record({
    on: fc.nat(2),
    seconds: fc.integer({ min: 5, max: 0xffff_ffff }),
    nanoseconds: time.nanoseconds,
    data,
    flags: maybe(fc.nat(0xffff_ffff)),
    dropCount: maybe(fc.maxSafeNat()),
    comments,
  });
  const counters = fc.record({
    ...time,
    seconds: fc.integer({ min: 5, max: 2 ** 33 }),
    received: maybe(fc.maxSafeNat()),
  });
  fc.assert(
    fc.property(
      sections,
      fc.array(interfaces, { minLength: 3, maxLength: 3 }),
      fc.array(inputs, { maxLength: 5 }),
      counters,
      (section, described, list, statistics) => {
        const bytes = written((sink) => {
          const writer = new PcapngWriter(sink, section as SectionToWrite);
          for (const one of described) writer.addInterface(one as InterfaceToWrite);
          for (const { on, ...packet } of list) writer.packet(on, packet as AnnotatedPacket);
          writer.statistics(1, statistics as typeof statistics & { received: number });
          return writer;
        });
        const read = records(bytes, 7);
        expect(read[0]).toMatchObject({ kind: 'section', section: present(section) });
        described.forEach((one, index) => {
          expect(read[1 + index]).toMatchObject({ interface: { ...present(one), index, resolution: NANOSECONDS } });
        });
        list.forEach(({ on, ...packet }, i) => {
          expect(read[4 + i]).toMatchObject({ packet: { ...present(packet), interface: { index: on } } });
        });
        expect(read.at(-1)).toMatchObject({ statistics: present(statistics) });
      },
    ),
    { numRuns: 60 },
  );
});

function present(record: object): object {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}

test('times survive every resolution as far as it reaches', () => {
  for (const resolution of [
    { base: 10, exponent: 0, kept: 0 },
    { base: 10, exponent: 3, kept: 123_000_000 },
    { base: 10, exponent: 9, kept: 123_456_789 },
    { base: 2, exponent: 10, kept: 123_046_875 },
    { base: 2, exponent: 30, kept: 123_456_788 },
  ] as const) {
    const bytes = written((sink) => {
      const writer = new PcapngWriter(sink);
      writer.addInterface({ resolution });
      writer.packet(0, { seconds: 1_700_000_000, nanoseconds: 123_456_789, data: new Uint8Array(1) });
      return writer;
    });
    expect(packets(records(bytes))[0]).toMatchObject({ seconds: 1_700_000_000, nanoseconds: resolution.kept });
  }
});

test('a packet of the switch is written with its direction, cut to the snap length', () => {
  const packet = new PacketPool({ packets: 1, bufferBytes: 512 }).allocate();
  if (packet === null) throw new Error('a fresh pool is empty');
  packet.length = 61;
  packet.frame().set(Array.from({ length: 61 }, (_, i) => i));
  const bytes = written((sink) => {
    const writer = new PcapngWriter(sink);
    writer.addInterface({ name: 'whole' });
    writer.addInterface({ name: 'cut', snapLengthBytes: 13 });
    writer.frame(0, packet, { seconds: 9, nanoseconds: 8 }, Direction.OUTBOUND);
    writer.frame(1, packet, { seconds: 9, nanoseconds: 9 }, Direction.INBOUND);
    return writer;
  });
  const [whole, cut] = packets(records(bytes));
  expect(whole).toMatchObject({ seconds: 9, nanoseconds: 8, flags: 2, originalLengthBytes: 61 });
  expect(whole.data).toEqual(packet.frame());
  expect(cut).toMatchObject({ flags: 1, originalLengthBytes: 61 });
  expect(cut.data).toEqual(packet.frame().subarray(0, 13));
});

test('much is written in few chunks, and a packet longer than a chunk too', () => {
  const chunks: Uint8Array[] = [];
  const writer = new PcapngWriter((chunk) => chunks.push(chunk));
  writer.addInterface({});
  for (let i = 0; i < 1000; i += 1) writer.packet(0, { seconds: i, nanoseconds: 0, data: new Uint8Array(100) });
  writer.packet(0, { seconds: 1000, nanoseconds: 0, data: new Uint8Array(200_000).fill(3) });
  writer.flush();
  expect(chunks.length).toBeLessThan(6);
  const read = packets(records(joined(chunks)));
  expect(read).toHaveLength(1001);
  expect(read[1000].data).toEqual(new Uint8Array(200_000).fill(3));
});

const small = (littleEndian = true): Uint8Array =>
  written((sink) => {
    const writer = new PcapngWriter(sink, { littleEndian });
    writer.addInterface({ name: 'eth0' });
    writer.packet(0, { seconds: 1, nanoseconds: 2, data: new Uint8Array([1, 2, 3]), comments: ['c'] });
    return writer;
  });

/** A block by hand, little-endian. */
function block(type: number, body: number[], behind = body.length + 12): Uint8Array {
  const bytes = Buffer.alloc(body.length + 12);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(body.length + 12, 4);
  bytes.set(body, 8);
  bytes.writeUInt32LE(behind, body.length + 8);
  return bytes;
}

test('sections follow each other, each with its own byte order and interfaces', () => {
  const list = records(joined([small(true), small(false), small(true)]));
  expect(list.map((record) => record.kind)).toEqual(new Array(3).fill(['section', 'interface', 'packet']).flat());
  expect(packets(list).map((packet) => packet.interface.index)).toEqual([0, 0, 0]);
});

test('blocks of other kinds are passed over without being held', () => {
  const reader = new CaptureReader();
  const huge = block(0x0bad, new Array<number>(100_000).fill(0));
  let held = 0;
  let count = 0;
  for (const chunk of pieces(joined([small(), huge, block(4, [0, 0, 0, 0]), small().subarray(28)]), 512)) {
    reader.push(chunk);
    while (reader.next() !== null) count += 1;
    held = Math.max(held, reader.bufferedBytes);
  }
  reader.end();
  expect(count).toBe(5);
  expect(held).toBeLessThan(1000);
});

test('simple packets have a length but no time; the first interface’s snap length cuts them', () => {
  const section = small().subarray(0, 28);
  const description = block(1, [1, 0, 0, 0, 3, 0, 0, 0]);
  const simple = block(3, [60, 0, 0, 0, 7, 8, 9, 0]);
  const [packet] = packets(records(joined([section, description, simple])));
  expect(packet).toMatchObject({ hasTime: false, originalLengthBytes: 60, data: new Uint8Array([7, 8, 9]) });
});

test('obsolete packet blocks are read, with their drop count', () => {
  const old = block(2, [0, 0, 5, 0, 0, 0, 0, 0, 0x40, 0x42, 0x0f, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0xaa, 0xbb, 0, 0]);
  const list = records(joined([small().subarray(0, 28), block(1, [1, 0, 0, 0, 0, 0, 0, 0]), old]));
  expect(packets(list)[0]).toMatchObject({ seconds: 1, dropCount: 5, originalLengthBytes: 9 });
});

test('a truncated file gives what was whole, then says how much that was', () => {
  const bytes = small();
  for (const [file, before] of [
    [joined([bytes, bytes.subarray(0, bytes.length - 1)]), 1],
    [fixture('tcpdump-micro.pcap').subarray(0, 400), 3],
    [fixture('dumpcap-two-interfaces.pcapng').subarray(0, 800), 3],
  ] as const) {
    const { error, read } = failure(file);
    expect(read).toHaveLength(before);
    expect(error.packetsRead).toBe(before);
    expect(error.message).toMatch(new RegExp(`truncated: .* after ${before} packets`));
  }
  expect(failure(new Uint8Array(0)).error.message).toContain('the file is empty');
  expect(failure(bytes.subarray(0, 3)).error.message).toContain('ends after 3 bytes');
});

test('lies about lengths, options and interfaces are refused with their place', () => {
  const section = small().subarray(0, 28);
  const description = block(1, [1, 0, 0, 0, 0, 0, 0, 0]);
  const packet = (captured: number[], on = 0): number[] => [
    ...[on, 0, 0, 0],
    ...new Array<number>(8).fill(0),
    ...captured,
    ...[4, 0, 0, 0],
    ...[1, 2, 3, 4],
  ];
  const cases: [Uint8Array, string][] = [
    [joined([section, block(0x99, [], 16)]), 'block length is 12 before and 16 behind the block at byte 28'],
    [joined([section, block(1, [1, 0, 0, 0, 0, 0, 0, 0], 4)]), 'block length is 20 before and 4 behind'],
    [joined([section, block(1, [1, 0, 0, 0])]), 'block of type 1 has 16 bytes, fewer than 20'],
    [
      joined([section, new Uint8Array([6, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0])]),
      'block length 33 is no multiple of four',
    ],
    [
      joined([section, new Uint8Array([6, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0])]),
      'block of type 6 has 2147483648 bytes, more than',
    ],
    [
      joined([section, description, block(6, packet([5, 0, 0, 0]))]),
      'packet of 5 bytes does not fit the 4 of its block',
    ],
    [
      joined([section, description, block(6, packet([4, 0, 0, 0], 1))]),
      'interface 1 has not been described; there are 1',
    ],
    [joined([section, block(3, [0, 0, 0, 0])]), 'interface 0 has not been described'],
    [
      joined([section, block(1, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 5, 0, 65, 65, 65, 65])]),
      'option 2 of 5 bytes runs over the end',
    ],
    [
      joined([section, block(1, [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 0, 6, 6, 0, 0])]),
      'option 9 has 2 bytes instead of 1',
    ],
    [block(1, [1, 0, 0, 0, 0, 0, 0, 0]), 'neither pcap nor pcapng: it begins with 0x01000000'],
    [new Uint8Array([0x1f, 0x8b, 8, 0]), 'compressed with gzip'],
    [joined([section.subarray(0, 8), new Uint8Array(20)]), 'section header without a byte order'],
    [Buffer.from('d4c3b2a1020003000000000000000000ffff000001000000', 'hex'), 'pcap version 2.3 is not 2.4'],
    [
      Buffer.from('d4c3b2a1020004000000000000000000ffff0000010000000000000000000000ffffff7fffffff7f', 'hex'),
      'packet of 2147483647 bytes is longer than 262144 at byte 24',
    ],
  ];
  for (const [bytes, reason] of cases) expect(failure(bytes).error.message).toContain(reason);
});

test('after an error a reader stays in error', () => {
  const reader = new CaptureReader();
  reader.push(new Uint8Array(64));
  expect(() => reader.next()).toThrow(CaptureError);
  expect(() => reader.next()).toThrow('neither pcap nor pcapng');
  expect(() => reader.push(new Uint8Array(1))).toThrow(CaptureError);
  expect(() => reader.end()).toThrow(CaptureError);
});

test('a writer refuses what the format cannot say, and writes nothing of it', () => {
  const chunks: Uint8Array[] = [];
  const writer = new PcapngWriter((chunk) => chunks.push(chunk));
  writer.addInterface({ offsetSeconds: 100 });
  const packet = { seconds: 200, nanoseconds: 0, data: new Uint8Array(4) };
  expect(() => writer.packet(1, packet)).toThrow('interface 1 has not been described');
  expect(() => writer.packet(0, { ...packet, seconds: 99 })).toThrow('cannot hold 99 s');
  expect(() => writer.packet(0, { ...packet, nanoseconds: 1e9 })).toThrow(CaptureError);
  expect(() => writer.packet(0, { ...packet, comments: ['x'.repeat(70_000)] })).toThrow('longer than 65535');
  expect(() => writer.addInterface({ resolution: { base: 10, exponent: 128 } })).toThrow('cannot be described');
  writer.packet(0, packet);
  writer.flush();
  expect(packets(records(joined(chunks)))).toHaveLength(1);
  expect(() => new PcapWriter(() => {}).packet({ ...packet, seconds: 2 ** 32 })).toThrow(CaptureError);
});

test('mutated captures throw nothing but CaptureError', () => {
  const rounds = Number(process.env.MILLRACE_FUZZ ?? 5000);
  const samples = [
    ...['tcpdump-micro.pcap', 'tcpdump-nano.pcap', 'dumpcap-two-interfaces.pcapng', 'editcap-comment.pcapng'].map(
      fixture,
    ),
    small(false),
  ];
  let state = 0x1234_5678;
  const random = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  let refused = 0;
  for (let round = 0; round < rounds; round += 1) {
    let bytes = new Uint8Array(samples[random(samples.length)]);
    for (let edits = random(5); edits > 0; edits -= 1) {
      const at = random(bytes.length);
      const kind = random(4);
      if (kind === 0) bytes[at] = random(256);
      else if (kind === 1) bytes[at & ~3] ^= 1 << random(8);
      else if (kind === 2) bytes.copyWithin(at, random(bytes.length));
      else if (at > 4) bytes = bytes.slice(0, at);
    }
    try {
      for (const _ of readCapture(pieces(bytes, 1 + random(400)))) {
        // Reading is all that is asked for.
      }
    } catch (error) {
      if (!(error instanceof CaptureError)) throw error;
      refused += 1;
    }
  }
  expect(refused).toBeGreaterThan(rounds / 10);
  expect(refused).toBeLessThan(rounds);
});
