/** What a flow looks at, as text. */
import { expect, test } from 'vitest';
import { formatFlowKey, parseFlowKey } from '../../flow/index.ts';
import { withoutValues } from './mask-text.ts';

test.each([
  [
    'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.2,proto=17,frag=no)',
    'recirc_id,in_port,eth_type(0x0800),ipv4(dst,proto,frag)',
  ],
  [
    'in_port(3),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:00/ff:ff:ff:00:00:00),eth_type(0x0806),arp(op=1)',
    'in_port,eth(src,dst/ff:ff:ff:00:00:00),eth_type(0x0806),arp(op)',
  ],
  [
    'skb_mark(0x1/0xf),eth(),eth_type(0x0800),ipv4(src=10.0.0.0/255.0.0.0,proto=6),tcp(dst=80/0xfff0),tcp_flags(+syn-ack)',
    'skb_mark/0xf,eth_type(0x0800),ipv4(src/255.0.0.0,proto),tcp(dst/0xfff0),tcp_flags(+syn-ack)',
  ],
  [
    'in_port(1),eth(),eth_type(0x8100),vlan(vid=5,pcp=0/0x0),encap(eth_type(0x86dd),ipv6(src=2001:db8::/ffff:ffff::,proto=58),icmpv6(type=128))',
    'in_port,eth_type(0x8100),vlan(vid),encap(eth_type(0x86dd),ipv6(src/ffff:ffff::,proto),icmpv6(type))',
  ],
])('%s looks at %s', (flow, fields) => {
  const { key, mask } = parseFlowKey(flow);
  expect(withoutValues(formatFlowKey(key, mask))).toBe(fields);
});
