/**
 * Flow keys against Open vSwitch's own parser: random frames, most of them with lengths that lie, cut off, or with padding that looks
 * like headers, and what `ovs-ofctl parse-pcap` reads from each of them. A key that says more than ovs-vswitchd reads lets one frame
 * make a flow that others fall to, which its rules would drop.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Extraction, extract, FlowKey, isMpls, Word } from '../src/flow/index.ts';
import { formatIpv4, formatMac, PcapWriter, parseIpv6Address, toKeyPort } from '../src/net/index.ts';
import { hostileFrame, randomFrame, randomKind } from '../src/offload/testing/frames.ts';
import { packetOf } from '../src/offload/testing/packets.ts';
import { RandomSource, runSeed } from '../src/offload/testing/random.ts';
import { run, useLab } from './support/index.ts';

const lab = useLab();
const FRAMES = 6000 * Math.max(1, Number(process.env.MILLRACE_FUZZ) || 1);

const PROTOCOLS: Readonly<Record<number, Readonly<Record<number, string>>>> = {
  2048: { 1: 'icmp', 6: 'tcp', 17: 'udp', 132: 'sctp' },
  34525: { 58: 'icmp6', 6: 'tcp6', 17: 'udp6', 132: 'sctp6' },
};
const NETWORKS: Readonly<Record<number, string>> = {
  2048: 'ip',
  34525: 'ipv6',
  2054: 'arp',
  32821: 'rarp',
  34887: 'mpls',
  34888: 'mplsm',
};
const TCP_FLAGS = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr', 'ns', '[200]', '[400]', '[800]'];

/** What a line of parse-pcap says, by name; addresses as hexadecimal digits, the protocol's name as `protocol`. */
function readLine(line: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const part of line.split(',')) {
    const [, name = part, value] = /^([^=]+)=(.*)$/.exec(part) ?? [];
    if (value === undefined) fields.set('protocol', name);
    else fields.set(name, isIpv6(name) ? Buffer.from(parseIpv6Address(value)).toString('hex') : value);
  }
  return fields;
}

function isIpv6(name: string): boolean {
  return name === 'ipv6_src' || name === 'ipv6_dst' || name === 'nd_target';
}

/** The same of a key of ours. */
function fieldsOf({ words }: FlowKey): Map<string, string> {
  const fields = new Map<string, string>([['in_port', 'ANY']]);
  const bytes = new Uint8Array(words.length * 4);
  words.forEach((word, i) => {
    new DataView(bytes.buffer).setUint32(i * 4, word);
  });
  const set = (name: string, value: number | string) => fields.set(name, String(value));
  const ipv6 = (name: string, word: number) =>
    set(name, Buffer.from(bytes.subarray(word * 4, word * 4 + 16)).toString('hex'));
  const type = words[Word.ETH_TYPE] >>> 16;
  const protocol = words[Word.IP] >>> 24;
  const name = PROTOCOLS[type]?.[protocol] ?? NETWORKS[type];
  if (name === undefined) set('dl_type', `0x${type.toString(16).padStart(4, '0')}`);
  else set('protocol', name);
  if (words[Word.VLAN] === 0) set('vlan_tci', '0x0000');
  else if (words[Word.INNER_VLAN] === 0) set('vlan_tci1', '0x0000');
  for (const [at, suffix] of [
    [Word.VLAN, ''],
    [Word.INNER_VLAN, '1'],
  ] as const) {
    if (words[at] === 0) continue;
    set(`dl_vlan${suffix}`, words[at] & 0xfff);
    set(`dl_vlan_pcp${suffix}`, (words[at] >>> 13) & 7);
  }
  set('dl_dst', formatMac(bytes, Word.MAC * 4));
  set('dl_src', formatMac(bytes, Word.MAC * 4 + 6));
  if (type === 0x0806 || type === 0x8035) {
    set('arp_spa', formatIpv4(bytes, Word.IPV4_SOURCE * 4));
    set('arp_tpa', formatIpv4(bytes, Word.IPV4_DESTINATION * 4));
    set('arp_op', protocol);
    set('arp_sha', formatMac(bytes, Word.ARP_MAC * 4));
    set('arp_tha', formatMac(bytes, Word.ARP_MAC * 4 + 6));
  } else if (isMpls(type)) {
    const entry = words[Word.MPLS];
    set('mpls_label', entry >>> 12);
    set('mpls_tc', (entry >>> 9) & 7);
    set('mpls_bos', (entry >>> 8) & 1);
    set('mpls_ttl', entry & 0xff);
    for (const at of [1, 2]) set(`mpls_lse${at}`, words[Word.MPLS + at]);
  } else if (type === 0x0800 || type === 0x86dd) ip(words, type, protocol);
  return fields;

  function ip(words: Uint32Array, type: number, protocol: number): void {
    if (type === 0x0800) {
      set('nw_src', formatIpv4(bytes, Word.IPV4_SOURCE * 4));
      set('nw_dst', formatIpv4(bytes, Word.IPV4_DESTINATION * 4));
    } else {
      ipv6('ipv6_src', Word.IPV6_SOURCE);
      ipv6('ipv6_dst', Word.IPV6_DESTINATION);
      set('ipv6_label', `0x${words[Word.IPV6_LABEL].toString(16).padStart(5, '0')}`);
    }
    const tos = (words[Word.IP] >>> 16) & 0xff;
    const fragment = words[Word.IP] & 3;
    set('nw_tos', tos & 0xfc);
    set('nw_ecn', tos & 3);
    set('nw_ttl', (words[Word.IP] >>> 8) & 0xff);
    set('nw_frag', ['no', 'first', 'later'][fragment]);
    const transport = PROTOCOLS[type]?.[protocol];
    if (transport === undefined) set('nw_proto', protocol);
    if (transport === undefined || fragment === 2) return;
    const isIcmp = transport.startsWith('icmp');
    set(isIcmp ? 'icmp_type' : 'tp_src', words[Word.PORTS] >>> 16);
    set(isIcmp ? 'icmp_code' : 'tp_dst', words[Word.PORTS] & 0xffff);
    if (transport.startsWith('tcp')) {
      const flags = words[Word.TCP_FLAGS] >>> 16;
      set('tcp_flags', TCP_FLAGS.filter((_, i) => (flags & (1 << i)) !== 0).join('|') || '0');
    }
    if (words[Word.PORTS] !== 135 << 16 && words[Word.PORTS] !== 136 << 16) return;
    if (transport !== 'icmp6') return;
    ipv6('nd_target', Word.ND_TARGET);
    set('nd_sll', formatMac(bytes, Word.ND_MAC * 4));
    set('nd_tll', formatMac(bytes, Word.ND_MAC * 4 + 6));
  }
}

/** Fields that ovs-vswitchd has and a datapath has not: of ICMP under the other IP version, and of IGMP. */
function withoutForeign(fields: Map<string, string>): Map<string, string> {
  const isForeign = ['1', '2', '58'].includes(fields.get('nw_proto') ?? '');
  if (isForeign) for (const name of ['tp_src', 'tp_dst']) fields.delete(name);
  // Entries that are 0 are not always written.
  if (fields.get('protocol')?.startsWith('mpls')) {
    for (const name of ['mpls_lse1', 'mpls_lse2']) if (!fields.has(name)) fields.set(name, '0');
  }
  return fields;
}

test('whatever lies in a frame, its flow key is what ovs-vswitchd reads from it', () => {
  const seed = runSeed();
  const random = new RandomSource(seed);
  const frames = Array.from({ length: FRAMES }, () => {
    const kind = randomKind(random);
    const frame = randomFrame(random, kind);
    return Uint8Array.from(random.once(5) ? frame : hostileFrame(random, frame, kind));
  });
  const directory = mkdtempSync(join(tmpdir(), 'millrace-key-'));
  lab.onClose(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'frames.pcap');
  const file = openSync(path, 'w');
  const pcap = new PcapWriter((chunk) => writeSync(file, chunk));
  for (const data of frames) pcap.packet({ seconds: 1, nanoseconds: 0, data });
  pcap.flush();
  closeSync(file);
  const lines = run('ovs-ofctl', ['-m', 'parse-pcap', path]).trim().split('\n');
  expect(lines.length).toBe(FRAMES);
  const key = new FlowKey();
  let lying = 0;
  frames.forEach((frame, i) => {
    key.begin(toKeyPort(1));
    const packet = packetOf(frame);
    const result = extract(packet, key);
    packet.release();
    const theirs = withoutForeign(readLine(lines[i]));
    // Datapaths drop what has no sound NSH header; nothing reads a key of it.
    if (result === Extraction.NSH_MALFORMED) return;
    expect(result).toBe(Extraction.DONE);
    if (theirs.get('nw_src') === '0.0.0.0' && theirs.get('nw_ttl') === '0') lying += 1;
    const ours = fieldsOf(key);
    const sorted = (fields: Map<string, string>) => [...fields].map((each) => each.join('=')).sort();
    const where = `MILLRACE_SEED=${seed}, frame ${i}: ${Buffer.from(frame).toString('hex')}`;
    expect(sorted(ours), where).toEqual(sorted(theirs));
  });
  // The frames do what they are there for.
  expect(lying).toBeGreaterThan(FRAMES / 40);
});
