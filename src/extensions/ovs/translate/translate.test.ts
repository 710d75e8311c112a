/** Keys, masks and actions: what is written is read back; what makes no sense is refused; garbage gives nothing but OvsError. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  ACTIONS,
  type ActionName,
  everyAction,
  formatActions,
  formatFlowKey,
  KEY_WORDS,
  KeyAttribute,
  parseActions,
  parseFlowKey,
  Word,
} from '../../../flow/index.ts';
import { listWith } from '../../../flow/testing/arbitraries.ts';
import { MessageWriter } from '../../../netlink/index.ts';
import { eachNested } from '../attributes.ts';
import { OvsError } from '../errors.ts';
import { decodeActions, encodeActions, readActions } from './actions.ts';
import { decodeMatch, decodeMetadata } from './key-decode.ts';
import { encodeKey } from './key-encode.ts';

const runs = Number(process.env.MILLRACE_FUZZ ?? 1) * 2000;

/** What lies inside of the one attribute that is written. */
function written(write: (writer: MessageWriter) => void): Uint8Array {
  const writer = new MessageWriter();
  write(writer);
  return writer.take().slice(4);
}

function key(words: Uint32Array, output = words): Uint8Array {
  return written((writer) => encodeKey(writer, 1, words, output));
}

const FLOWS = [
  'in_port(3),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0x4,ttl=64,frag=no),tcp(src=80,dst=8080),tcp_flags(syn)',
  'recirc_id(0x7),dp_hash(0x5),skb_priority(0x9),in_port(2),skb_mark(0x8),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x86dd),ipv6(src=fe80::1,dst=fe80::2,label=0x12345,proto=58,tclass=0x1,hlimit=255,frag=no),icmpv6(type=135,code=0),nd(target=fe80::3,sll=00:01:02:03:04:05,tll=00:00:00:00:00:00)',
  'in_port(1),eth(src=00:01:02:03:04:05,dst=ff:ff:ff:ff:ff:ff),eth_type(0x0806),arp(sip=10.0.0.1,tip=10.0.0.2,op=1,sha=00:01:02:03:04:05,tha=00:00:00:00:00:00)',
  'in_port(1),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x8100),vlan(vid=5,pcp=3),encap(eth_type(0x0800),ipv4(src=1.2.3.4,dst=5.6.7.8,proto=17,tos=0,ttl=9,frag=first),udp(src=1,dst=2))',
  'in_port(1),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x8847),mpls(label=100,tc=3,ttl=64,bos=1)',
  'in_port(4),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x0800),ipv4(src=1.2.3.4,dst=5.6.7.8,proto=1,tos=0,ttl=9,frag=no),icmp(type=8,code=0)',
  'recirc_id(0x7),in_port(4),ct_state(+est+rpl+trk+snat),ct_zone(0x5),ct_mark(0x7),ct_label(0x10000000000000002),ct_tuple4(src=9.8.7.6,dst=5.4.3.2,proto=17,tp_src=7,tp_dst=8),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x0800),ipv4(src=1.2.3.4,dst=5.6.7.8,proto=17,tos=0,ttl=9,frag=no),udp(src=1,dst=2)',
  'recirc_id(0x7),in_port(4),ct_state(+new+trk),ct_zone(0xffff),ct_mark(0),ct_label(0),ct_tuple6(src=::9,dst=::8,proto=6,tp_src=7,tp_dst=8),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x86dd),ipv6(src=fe80::1,dst=fe80::2,label=0x12345,proto=17,tclass=0x1,hlimit=255,frag=no),udp(src=1,dst=2)',
];

test.each(FLOWS)('a key survives the way to attributes and back: %s', (text) => {
  const { key: words, mask } = parseFlowKey(text);
  const decoded = decodeMatch(key(words), null);
  expect(formatFlowKey(decoded.key, mask)).toBe(formatFlowKey(words, mask));
  expect(decoded.key).toEqual(words);
  // And the mask that was made for it survives, too.
  const again = decodeMatch(key(decoded.key), key(decoded.key, decoded.mask));
  expect(again.mask).toEqual(decoded.mask);
});

test('a mask of layer 3 needs the EtherType matched, one of layer 4 the protocol', () => {
  const { key: words } = parseFlowKey(FLOWS[0]);
  const mask = decodeMatch(key(words), null).mask.slice();
  const bytes = (without: number) => {
    const writer = new MessageWriter();
    eachNested(key(words, mask), (type, content) => {
      if (type !== without) writer.bytes(type, content);
    });
    return writer.take();
  };
  expect(() => decodeMatch(key(words), bytes(6))).toThrow(OvsError);
  expect(() => decodeMatch(key(words), bytes(7))).toThrow(OvsError);
  expect(decodeMatch(key(words), bytes(9)).mask.length).toBe(KEY_WORDS);
});

test('attributes that come twice, are not known or have a wrong length are EINVAL', () => {
  const attribute = (type: number, length: number) => {
    const writer = new MessageWriter();
    writer.bytes(type, new Uint8Array(length).fill(1));
    return writer.take();
  };
  const twice = Uint8Array.of(...attribute(15, 4), ...attribute(15, 4));
  for (const bad of [twice, attribute(29, 4), attribute(33, 4), attribute(15, 5), attribute(22, 4), Uint8Array.of(9)]) {
    expect(() => decodeMatch(bad, null)).toThrow(expect.objectContaining({ errno: 22 }));
  }
});

const LISTS = [
  '1,2',
  'set(tunnel(tun_id=0x5,dst=1.2.3.4,ttl=64,flags(df|key))),3',
  'push_vlan(vid=5,pcp=1),2,pop_vlan',
  'set(ipv4(src=1.1.1.1/255.255.255.0)),set(eth(dst=00:00:00:00:00:09)),1',
  'sample(sample=50.0%,actions(1)),2',
  'clone(push_vlan(vid=9,pcp=0),4),5',
  'check_pkt_len(size=200,gt(1),le(2))',
  'trunc(100),1',
  'userspace(pid=7,userdata(0102030405)),recirc(0x3)',
  'hash(hash_l4(9)),recirc(0x1)',
  'meter(3),1',
  'ct(commit,zone=5,mark=0x1/0xf,label=0x1/0x3,helper=ftp,timeout=short,eventmask=0x1,nat(src=1.1.1.1-1.1.1.9:10-20,persistent,hash)),recirc(0x1)',
  'ct(force_commit,nat(dst=1.1.1.1)),ct_clear,1',
  'ct(zone=7,nat),recirc(0x1)',
];

test.each(LISTS)('actions survive the way to attributes and back: %s', (text) => {
  const { key: flow } = parseFlowKey(FLOWS[0]);
  const list = parseActions(text);
  const decoded = decodeActions(
    written((writer) => encodeActions(writer, 2, list)),
    flow,
  );
  expect(formatActions(decoded)).toBe(formatActions(list));
  expect(decoded).toEqual(list);
});

/** What attributes of these hold of a set is less than its words do: options of ERSPAN, a context that the metadata type leaves out. */
const SET_IN_PART: readonly number[] = [KeyAttribute.TUNNEL, KeyAttribute.NSH];

test.each(Object.keys(ACTIONS) as ActionName[])('%s survives the way to attributes and back', (name) => {
  const encoded = (words: Int32Array) => written((writer) => encodeActions(writer, 2, words));
  let survived = 0;
  fc.assert(
    fc.property(listWith(name), ({ words }) => {
      let isInPart = false;
      everyAction(words, 0, words.length, (action, at) => {
        isInPart ||= (action === ACTIONS.SET || action === ACTIONS.SET_MASKED) && SET_IN_PART.includes(words[at + 1]);
      });
      const content = encoded(words);
      const back = isInPart ? notRefused(content) : readActions(content);
      if (back === null) return;
      if (!isInPart) expect(back).toEqual(words);
      expect(encoded(back)).toEqual(content);
      survived += 1;
    }),
    { numRuns: 200 },
  );
  expect(survived).toBeGreaterThan(20);
});

/** A random tunnel may lead nowhere, and a random header be of another type than its metadata. */
function notRefused(content: Uint8Array): Int32Array | null {
  try {
    return readActions(content);
  } catch (error) {
    if (error instanceof OvsError) return null;
    throw error;
  }
}

test('lists that lie too deep inside each other are EOVERFLOW', () => {
  const { key: flow } = parseFlowKey(FLOWS[0]);
  let content: Uint8Array = new Uint8Array(0);
  for (let depth = 0; depth < 30; depth += 1) {
    const inner = content;
    content = written((writer) => {
      const nest = writer.beginNested(0);
      writer.bytes(20, inner);
      writer.endNested(nest);
    });
  }
  expect(() => decodeActions(content, flow)).toThrow(expect.objectContaining({ errno: 75 }));
});

test('no bytes, however malformed, give anything but a list, a key or OvsError', () => {
  const samples = [
    ...FLOWS.map((text) => key(parseFlowKey(text).key)),
    ...LISTS.map((text) => written((writer) => encodeActions(writer, 2, parseActions(text)))),
  ];
  const { key: flow } = parseFlowKey(FLOWS[0]);
  const changes = fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 4 });
  fc.assert(
    fc.property(fc.nat(samples.length - 1), changes, fc.nat(200), (which, edits, cut) => {
      const bytes = samples[which].slice(0, Math.max(0, samples[which].length - (cut > 100 ? 0 : cut)));
      for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
      for (const decode of [
        () => decodeMatch(bytes, null),
        () => decodeMatch(samples[0], bytes),
        () => decodeMetadata(bytes, new Uint32Array(KEY_WORDS)),
        () => decodeActions(bytes, flow),
      ]) {
        try {
          decode();
        } catch (error) {
          if (!(error instanceof OvsError)) throw error;
        }
      }
    }),
    { numRuns: runs },
  );
});

test('a TCI that nobody asked about is matched by the TCI that was read last, as in openvswitch.ko', () => {
  const attribute = (type: number, ...content: number[]) => {
    const writer = new MessageWriter();
    writer.bytes(type, Uint8Array.from(content));
    return [...writer.take()];
  };
  const tag = (type: number, tci: number | null, inner: number[]) => [
    ...attribute(6, type >> 8, type & 255),
    ...(tci === null ? [] : attribute(5, tci >> 8, tci & 255)),
    ...attribute(1, ...inner),
  ];
  const end = (type: number) => attribute(6, type >> 8, type & 255);
  const eth = attribute(4, ...new Array<number>(12).fill(2));
  const one = [...eth, ...tag(0x8100, 0x1064, end(0x88b5))];
  const two = [...eth, ...tag(0x88a8, 0x1065, tag(0x8100, 0xb064, end(0x88b5)))];
  const full = end(0xffff);
  for (const [key, mask, ...tags] of [
    [one, tag(0xffff, 0, full), 0xffff_1064],
    [one, tag(0xffff, null, full), 0xffff_1064],
    [one, tag(0xffff, 0x1fff, full), 0xffff_1fff],
    // Nothing is left open of a tag that is not named.
    [one, [], 0xffff_ffff],
    // The tag outside is read when the key's inner tag was the last.
    [two, tag(0xffff, 0, tag(0xffff, 0, full)), 0xffff_b064, 0xffff_b064],
    [two, tag(0xffff, 0x1fff, tag(0xffff, 0, full)), 0xffff_1fff, 0xffff_1fff],
    [two, tag(0xffff, 0, tag(0xffff, 0x1fff, full)), 0xffff_b064, 0xffff_1fff],
    [two, tag(0xffff, 0, full), 0xffff_b064, 0xffff_ffff],
    // An EtherType in there all 0 is that of the tag outside.
    [two, tag(0xffff, 0, tag(0, 0, full)), 0xffff_b064, 0xffff_b064],
  ] as const) {
    const { mask: words } = decodeMatch(Uint8Array.from(key), Uint8Array.from(mask));
    expect([...words.subarray(Word.VLAN, Word.VLAN + tags.length)]).toEqual(tags);
  }
});

test('a port, and options of a tunnel, count where a mask names them', () => {
  const mask = (text: string, without: number) => {
    const { key: words } = parseFlowKey(text);
    const writer = new MessageWriter();
    eachNested(key(words, decodeMatch(key(words), null).mask), (type, content) => {
      if (type === without) return;
      if (type !== 16) writer.bytes(type, content);
      else {
        const nest = writer.beginNested(type, false);
        eachNested(content, (each, value) => {
          if (each !== without) writer.bytes(each, value);
        });
        writer.endNested(nest);
      }
    });
    return decodeMatch(key(words), writer.take()).mask;
  };
  expect(mask(FLOWS[0], 3)[Word.IN_PORT]).toBe(0);
  expect(mask(FLOWS[0], 99)[Word.IN_PORT]).toBe(0xffff_ffff);
  const tunnel = `tunnel(tun_id=0x5,src=1.1.1.1,dst=2.2.2.2,ttl=64,geneve({class=0x102,type=0x80,len=4,0x1234}),flags(key)),${FLOWS[0]}`;
  const open = mask(tunnel, 8);
  expect([open[Word.TUNNEL_IP] >>> 24, open[Word.TUNNEL_IP] & 0xff, (open[Word.TUNNEL_FLAGS] >>> 8) & 0xff]).toEqual([
    0xff, 0, 0,
  ]);
  const whole = mask(tunnel, 99);
  expect([whole[Word.TUNNEL_IP] & 0xff, (whole[Word.TUNNEL_FLAGS] >>> 8) & 0xff]).toEqual([0xff, 0xff]);
});
