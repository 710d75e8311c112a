/** Bytes that nobody meant: frames cut everywhere, mutated frames, random ones. Nothing throws, nothing outside of the packet is read or written, and each has one answer. */
import { expect, test } from 'vitest';
import { Checksum, Gso, type Packet } from '../net/index.ts';
import { fuzzRounds, mutate, randomNumbers } from '../net/wire/testing.ts';
import { Decapsulator } from './decapsulate.ts';
import { TunnelWord } from './key.ts';
import { TunnelKind, TunnelPort, TunnelPorts } from './port.ts';
import { TUNNEL_RESULTS, TunnelResult } from './result.ts';
import { SttReceiver } from './stt/receiver.ts';
import { encapsulatorOf, largePool, packetOf, pathOf, SECRET, udpFrame, wordsOf } from './testing.ts';
import { geneveFrame, greFrame, vxlanFrame } from './testing-outer.ts';

const GUARD = 0xa5;

/** A packet whose memory ends with it, so that a read beyond it gives NaN or throws, with guards before it. */
function guarded(frame: Uint8Array): Packet {
  const packet = packetOf(frame, 16);
  packet.bytes.fill(GUARD, 0, 16);
  return packet;
}

function sttFrame(): Uint8Array {
  const packet = packetOf(udpFrame());
  encapsulatorOf().encapsulate(packet, 0, new TunnelPort({ kind: TunnelKind.STT }), wordsOf({}), 0, pathOf());
  return packet.frame().slice();
}

const frames = [
  vxlanFrame(),
  vxlanFrame(udpFrame(20, { ecn: 2 }), { isIpv6: true, tos: 3 }),
  geneveFrame(udpFrame(), {}, [
    { optionClass: 0x102, type: 0x80, data: new Uint8Array(8) },
    { optionClass: 0x103, type: 1, data: new Uint8Array(0) },
  ]),
  greFrame(udpFrame(), {}, { hasChecksum: true, sequence: 1 }),
  greFrame(udpFrame().subarray(14), { isIpv6: true }, { protocol: 0x0800 }),
  sttFrame(),
];

function world() {
  const ports = new TunnelPorts();
  ports.add(new TunnelPort({ kind: TunnelKind.VXLAN, groupPolicy: true }));
  ports.add(new TunnelPort({ kind: TunnelKind.GENEVE, layer3: true, criticalOptions: [1] }));
  ports.add(new TunnelPort({ kind: TunnelKind.GRE, layer3: true }));
  ports.add(new TunnelPort({ kind: TunnelKind.STT }));
  const pool = largePool();
  let nowMs = 0;
  const stt = new SttReceiver({ nowMs: () => nowMs, pool, secret: SECRET, frames: 6 });
  const decapsulator = new Decapsulator(ports, stt);
  const words = new Uint32Array(77);
  const tally = new Array<number>(TUNNEL_RESULTS).fill(0);
  return {
    tally,
    pool,
    stt,
    run(packet: Packet): void {
      nowMs += 1;
      const before = packet.bytes.slice();
      words.fill(0);
      const { offset, length } = packet;
      const result = decapsulator.decapsulate(packet, words);
      tally[result] += 1;
      if (result !== TunnelResult.DONE) {
        const isSame =
          Buffer.compare(packet.bytes, before) === 0 && packet.offset === offset && packet.length === length;
        must(isSame && words.every((word) => word === 0), 'a packet that was not taken has changed', before);
        return;
      }
      const out = decapsulator.whole ?? packet;
      const isInside = out !== packet || (out.offset >= 16 && out.offset + out.length <= offset + length);
      must(out.length > 0 && isInside, 'the packet that came out is not inside', before);
      const isPartial = out.checksum === Checksum.PARTIAL;
      must(!isPartial || out.checksumStart + out.checksumOffset + 2 <= out.length, 'a checksum is outside', before);
      must([4, 6].includes(words[TunnelWord.IP] >>> 24), 'the key has no family', before);
      must(
        packet.bytes.subarray(0, 16).every((byte) => byte === GUARD),
        'something was written before the packet',
        before,
      );
      if (out !== packet) out.release();
    },
  };
}

function must(holds: boolean, what: string, bytes: Uint8Array): void {
  if (!holds) throw new Error(`${what}: ${Buffer.from(bytes).toString('hex')}`);
}

test('frames cut everywhere, with outer lengths that contradict it and with such that agree', () => {
  const cut = world();
  const agreeing = world();
  for (const frame of frames) {
    for (let length = 0; length < frame.length; length += 1) {
      cut.run(guarded(frame.subarray(0, length)));
      const isIpv6 = frame[12] === 0x86;
      const value = length - (isIpv6 ? 54 : 14);
      if (value < 0) continue;
      const lying = frame.slice(0, length);
      lying[isIpv6 ? 18 : 16] = value >>> 8;
      lying[isIpv6 ? 19 : 17] = value;
      const packet = guarded(lying);
      packet.checksum = Checksum.VALID;
      agreeing.run(packet);
    }
  }
  // A frame that ends before it says is nobody's.
  expect(cut.tally.reduce((sum, count) => sum + count)).toBe(cut.tally[TunnelResult.NOT_TUNNELLED]);
  expect(agreeing.tally[TunnelResult.BAD_LENGTH] + agreeing.tally[TunnelResult.BAD_CHECKSUM]).toBeGreaterThan(100);
});

test('mutated frames with any metadata', () => {
  const all = world();
  const random = randomNumbers(20_261_130);
  const kinds = [Gso.NONE, Gso.NONE, Gso.TCPV4, Gso.UDP, Gso.UDP_L4, Gso.TCPV6 | Gso.ECN, 9];
  for (let round = fuzzRounds(8000); round > 0; round -= 1) {
    const frame = frames[random(frames.length)];
    const packet = guarded(mutate(frame, random));
    // Without a sum most would end at it.
    if (random(2) === 0) packet.checksum = Checksum.VALID;
    if (random(4) === 0) {
      packet.checksum = Checksum.PARTIAL;
      packet.checksumStart = random(3) === 0 ? random(200) : [34, 54, 84][random(3)];
      packet.checksumOffset = [6, 16, 8, random(100)][random(4)];
    }
    packet.gsoType = kinds[random(kinds.length)];
    packet.gsoSizeBytes = random(2000);
    all.run(packet);
  }
  // Fuzzing that meets few answers looks at little.
  expect(all.tally.filter((count) => count > 0).length).toBeGreaterThan(9);
  all.stt.close();
  expect(all.pool.available).toBe(all.pool.capacity);
});

test('random bytes behind sound outer headers', () => {
  const all = world();
  const random = randomNumbers(7);
  for (let round = fuzzRounds(4000); round > 0; round -= 1) {
    const frame = frames[random(frames.length)].slice();
    for (let at = frame[12] === 0x86 ? 62 : 42; at < frame.length; at += 1) frame[at] = random(256);
    const packet = guarded(frame);
    packet.checksum = Checksum.VALID;
    all.run(packet);
  }
  expect(all.tally[TunnelResult.NOT_TUNNELLED]).toBe(0);
});

test('encapsulation of anything, by any words, writes nothing outside of packet and headroom', () => {
  const random = randomNumbers(99);
  const encapsulator = encapsulatorOf();
  const kinds = [TunnelKind.VXLAN, TunnelKind.GENEVE, TunnelKind.GRE, TunnelKind.STT];
  const tally = new Set<number>();
  for (let round = fuzzRounds(4000); round > 0; round -= 1) {
    const frame = mutate(udpFrame(random(50)), random);
    const packet = packetOf(frame, 400);
    packet.headroomStart = random(8) === 0 ? 380 : 20;
    packet.bytes.fill(GUARD, 0, 400);
    const words = Uint32Array.from({ length: 77 }, () => (random(3) === 0 ? 0 : random(0xffff_ffff)));
    words[TunnelWord.IP] = ([4, 6, 4, random(256)][random(4)] << 24) | random(0x4);
    const kind = kinds[random(kinds.length)];
    const port = new TunnelPort({ kind, groupPolicy: random(2) === 0, layer3: random(2) === 0 });
    const l3Type = [0, 0, 0x0800, 0x86dd, 0x9999][random(5)];
    if (random(3) === 0) {
      packet.checksum = Checksum.PARTIAL;
      packet.checksumStart = random(frame.length + 1);
      packet.checksumOffset = 6;
      if (packet.checksumStart + 8 > frame.length) packet.checksum = Checksum.UNKNOWN;
    }
    const result = encapsulator.encapsulate(packet, l3Type, port, words, 0, pathOf(false, [1500, 576, 60][random(3)]));
    tally.add(result);
    const isDone = result === TunnelResult.DONE || result === TunnelResult.TO_FRAGMENT;
    must(Buffer.compare(packet.bytes.subarray(400), frame) === 0, 'the packet inside has changed', frame);
    const isInPlace = isDone ? packet.offset + packet.length === 400 + frame.length : packet.length === frame.length;
    must(isInPlace && (isDone || packet.offset === 400), 'the packet is elsewhere', frame);
    const before = packet.bytes.subarray(0, isDone ? packet.offset : 400);
    must(
      before.every((byte) => byte === GUARD) && packet.offset >= packet.headroomStart,
      'something was written before the headers',
      frame,
    );
  }
  for (const result of [
    TunnelResult.DONE,
    TunnelResult.BAD_KEY,
    TunnelResult.NO_HEADROOM,
    TunnelResult.TOO_BIG,
    TunnelResult.MALFORMED_OPTION,
  ]) {
    expect(tally).toContain(result);
  }
});
