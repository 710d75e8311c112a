import { expect, test } from 'vitest';
import { Gso, toKeyPort } from '../../net/index.ts';
import { Extraction, extract } from '../key/extract.ts';
import { FlowKey } from '../key/key.ts';
import { KEY_WORDS, TAG_PRESENT, Word } from '../key/layout.ts';
import {
  arp,
  ethernet,
  fuzzRounds,
  hex,
  icmp,
  ipv4,
  ipv6,
  packetOf,
  randomNumbers,
  sctp,
  tcp,
  udp,
} from '../testing/frames.ts';
import { PutMode } from './contract.ts';
import { RecentFlows } from './recent-flows.ts';
import { FlowTable } from './table.ts';

const ALL = 0xffff_ffff;
const FRAMES = [
  ethernet(0x0800, ipv4(6, tcp())),
  ethernet(0x0800, ipv4(17, udp())),
  ethernet(0x0800, ipv4(1, icmp(8, 0))),
  ethernet(0x0800, ipv4(132, sctp())),
  ethernet(0x0800, ipv4(6, tcp()), [[0x8100, 5]]),
  ethernet(0x86dd, ipv6(6, tcp())),
  ethernet(0x0806, arp()),
];
/** For masks that look at the Ethernet header alone: tags, lengths, headers of service chaining. */
const ETHERNET_FRAMES = [
  ...FRAMES,
  ethernet(0x0800, ipv4(6, tcp()), [
    [0x8100, 5],
    [0x8100, 6],
  ]),
  ethernet(0x88a8, []),
  ethernet(0x894f, hex('0fc0010100000a00').concat(hex('00'.repeat(16)))),
  ethernet(0x0026, hex('aaaa03000000 0800 4500')),
];

/** Words that masks may look at, with bits for each. */
const LOOKS: readonly (readonly [word: number, bits: number])[] = [
  [Word.IN_PORT, ALL],
  [Word.ETH_TYPE, ALL],
  [Word.MAC, ALL],
  [Word.MAC + 1, ALL],
  [Word.MAC + 2, ALL],
  [Word.VLAN, ALL],
  [Word.IP, 0x0000_0003],
  [Word.IP, 0xffff_ff03],
  [Word.PORTS, 0xffff_0000],
  [Word.PORTS, ALL],
  [Word.TCP_FLAGS, 0x0fff_0000],
  [Word.IPV4_SOURCE, 0xffff_ff00],
  [Word.IPV4_DESTINATION, ALL],
];
const ETHERNET_LOOKS: typeof LOOKS = [
  [Word.IN_PORT, ALL],
  [Word.RECIRC_ID, ALL],
  [Word.ETH_TYPE, 0xffff_00ff],
  [Word.MAC, ALL],
  [Word.MAC + 1, 0xffff],
  [Word.MAC + 2, ALL],
  [Word.VLAN, ALL],
  [Word.VLAN, TAG_PRESENT | 0xfff],
  [Word.INNER_VLAN, TAG_PRESENT],
];

function keyFor(bytes: readonly number[], port: number, recircId = 0): FlowKey {
  const key = new FlowKey();
  key.begin(toKeyPort(port));
  key.words[Word.RECIRC_ID] = recircId;
  const packet = packetOf(bytes);
  extract(packet, key);
  packet.release();
  return key;
}

test.each([
  ['down to TCP flags', true, FRAMES, LOOKS],
  ['in the Ethernet header alone', false, ETHERNET_FRAMES, ETHERNET_LOOKS],
] as const)(
  'a frame that was seen lately finds the flow that a look-up would find, whatever changes %s and in the table',
  (_, readsTcpFlags, frames, looksAt) => {
    const random = randomNumbers(77);
    const table = new FlowTable();
    const recent = new RecentFlows(table, readsTcpFlags);
    const key = new FlowKey();
    let found = 0;
    for (let round = fuzzRounds(20_000); round > 0; round -= 1) {
      // A few bytes of a few frames change, so that many come again and others differ in what matters.
      const bytes = [...frames[random(3) === 0 ? random(frames.length) : 0]];
      if (!readsTcpFlags && random(2) === 0) bytes[random(18)] ^= 1 << random(8);
      if (!readsTcpFlags && random(20) === 0) bytes.length = 14 + random(8);
      if (random(2) === 0)
        bytes[[14, 15, 16, 17, 17, 20, 21, 22, 23, 26, 33, 35, 46, 47][random(14)]] ^= 1 << random(8);
      if (random(8) === 0) bytes.length = 34 + random(20);
      if (random(8) === 0) bytes.push(0, 0, 0, 0);
      const port = 1 + random(2);
      const recircId = random(4) === 0 ? 3 : 0;
      if (random(20) === 0) {
        const mask = new Uint32Array(KEY_WORDS);
        for (let looks = random(5); looks > 0; looks -= 1) {
          const [word, bits] = looksAt[random(looksAt.length)];
          mask[word] |= bits;
        }
        const put = { key: keyFor(bytes, port, recircId).words, mask, actions: Int32Array.of(1), ufid: null };
        table.put({ ...put, mode: PutMode.CREATE });
      }
      if (table.size > 0 && random(30) === 0) {
        const slot = table.next(random(table.slotEnd));
        if (slot !== -1) table.remove(slot);
      }
      if (random(500) === 0) table.flush();

      const packet = packetOf(bytes);
      if (random(50) === 0) packet.gsoType = Gso.UDP;
      const slot = recent.find(packet, port, recircId);
      key.begin(toKeyPort(port));
      key.words[Word.RECIRC_ID] = recircId;
      const isSound = extract(packet, key) === Extraction.DONE;
      packet.release();
      if (slot !== -1) {
        found += 1;
        expect(isSound).toBe(true);
        expect(table.maskOf(slot).find(key.words)).toBe(slot);
        if (readsTcpFlags) expect(recent.tcpFlags).toBe(key.words[Word.TCP_FLAGS] >>> 16);
      } else if (isSound) {
        const match = table.lookup(key);
        if (match !== -1) recent.remember(match);
      }
    }
    expect(found).toBeGreaterThan(fuzzRounds(20_000) / 10);
  },
);

test('what a flow was remembered for is looked up again once the flow is gone, though another has taken its place', () => {
  const table = new FlowTable();
  const recent = new RecentFlows(table, true);
  const [frame] = FRAMES;
  const mask = new Uint32Array(KEY_WORDS);
  mask[Word.IN_PORT] = ALL;
  const put = (port: number) =>
    table.put({ key: keyFor(frame, port).words, mask, actions: Int32Array.of(1), ufid: null, mode: PutMode.CREATE });
  const slot = put(1);
  const packet = packetOf(frame);
  expect(recent.find(packet, 1, 0)).toBe(-1);
  recent.remember(slot);
  expect(recent.find(packet, 1, 0)).toBe(slot);
  table.remove(slot);
  expect(recent.find(packet, 1, 0)).toBe(-1);
  expect(put(2)).toBe(slot);
  expect(recent.find(packet, 1, 0)).toBe(-1);
  packet.release();
});
