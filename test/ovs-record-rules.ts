/** What ovs-record-flows.ts has Open vSwitch's programs put: frames, OpenFlow rules, and flows in the text of ovs-dpctl. */

const MACS = '020000000002020000000001';

function ipv4(protocol: string, payload: string, fragment = '4000'): string {
  const length = (20 + payload.length / 2).toString(16).padStart(4, '0');
  return `08004500${length}0001${fragment}40${protocol}00000a0900010a090002${payload}`;
}

function ipv6(protocol: string, payload: string): string {
  const length = (payload.length / 2).toString(16).padStart(4, '0');
  const address = (last: number) => `fe80000000000000000000000000000${last}`;
  return `86dd60012345${length}${protocol}40${address(1)}${address(2)}${payload}`;
}

const TCP_HEADER = '1f90005000000000000000005002200000000000';
const UDP_HEADER = '1f900050000c000000000000';
const TCP = ipv4('06', TCP_HEADER);
const UDP = ipv4('11', UDP_HEADER);
const ARP = `0806000108000604000102000000000${1}0a0900010000000000000a090002${'00'.repeat(18)}`;
const LLC = `0026424203${'00'.repeat(35)}`;

/** In hexadecimal. */
export const FRAMES: Readonly<Record<string, string>> = {
  tcp: MACS + TCP,
  udp: MACS + UDP,
  icmp: MACS + ipv4('01', '0800000000010001'),
  sctp: MACS + ipv4('84', '1f90005000000000000000001122'),
  firstFragment: MACS + ipv4('11', UDP_HEADER, '2000'),
  laterFragment: MACS + ipv4('11', '00'.repeat(16), '2010'),
  arp: MACS + ARP,
  rarp: MACS + ARP.replace('0806', '8035').replace('06040001', '06040003'),
  tcp6: MACS + ipv6('06', TCP_HEADER),
  solicitation: MACS + ipv6('3a', '8700000000000000fe8000000000000000000000000000030101020000000001'),
  mpls: `${MACS}884700064140${TCP.slice(4)}`,
  mplsTwo: `${MACS}88470006404000065140${TCP.slice(4)}`,
  vlan: `${MACS}81000064${TCP}`,
  vlanPriority: `${MACS}8100a000${TCP}`,
  vlanArp: `${MACS}81000064${ARP}`,
  vlanLlc: `${MACS}81000064${LLC}`,
  vlanOther: `${MACS}8100006488b5${'00'.repeat(46)}`,
  vlanTwo: `${MACS}8100006581000064${UDP}`,
  qinq: `${MACS}88a8006581000064${TCP}`,
  llc: MACS + LLC,
  nsh1: `${MACS}894f0fc601030001230500000001000000020000000300000004${MACS}${TCP}`,
  nsh2: `${MACS}894f0fc30203000123050102aa04${MACS}${TCP}`,
  other: `${MACS}88b5${'00'.repeat(46)}`,
};

/** Commands of ovs-ofctl, with what comes behind the bridge. */
export const GROUPS: readonly [command: string, argument: string][] = [
  ['add-meter', 'meter=1 kbps burst bands=type=drop rate=1000000 burst_size=500'],
  ['add-group', 'group_id=1,type=select,selection_method=dp_hash,bucket=bucket_id=0,actions=output:2'],
  [
    'add-group',
    'group_id=2,type=all,bucket=bucket_id=0,actions=set_field:02:00:00:00:00:99->eth_dst,output:2,bucket=bucket_id=1,actions=output:10',
  ],
  ['add-tlv-map', '{class=0x102,type=0x80,len=4}->tun_metadata0'],
  ['add-tlv-map', '{class=0x103,type=0x1,len=8}->tun_metadata1'],
];

/** Rules of tables behind the first. */
export const TABLES = [
  'table=5,reg0=1,ip,actions=set_field:1.1.1.1->ip_dst,output:2',
  'table=5,reg0=0,actions=output:2',
];

const ENCAP_ETHERNET = 'encap(ethernet),set_field:02:00:00:00:00:66->eth_dst,output:2';
const SAMPLE = 'collector_set_id=1,obs_domain_id=3,obs_point_id=4';

/** A frame, what a rule matches and what it does. */
export const RULES: readonly [frame: string, match: string, actions: string][] = [
  ...Object.keys(FRAMES).map((frame): [string, string, string] => [frame, 'in_port=1', 'output:2']),
  // Tags.
  ['vlan', 'dl_vlan=100', 'output:2'],
  ['vlan', 'dl_vlan=100', 'pop_vlan,output:2'],
  ['vlan', 'vlan_vid=0x1004/0x1004', 'output:2'],
  ['vlan', 'dl_vlan_pcp=0', 'set_field:4103->vlan_vid,output:2'],
  ['qinq', 'dl_vlan=101', 'pop_vlan,output:2'],
  ['tcp', 'in_port=1', 'push_vlan:0x8100,set_field:4105->vlan_vid,output:2'],
  ['tcp', 'in_port=1', 'push_vlan:0x88a8,set_field:4105->vlan_vid,push_vlan:0x8100,set_field:4106->vlan_vid,output:2'],
  // Fields.
  ['tcp', 'tcp,tcp_flags=+syn', 'output:2'],
  ['tcp', 'tcp,tp_dst=0x50/0xfff0', 'set_field:1.2.3.4->ip_src,set_field:99->tcp_dst,output:2'],
  ['tcp', 'ip', 'dec_ttl,output:2'],
  ['tcp', 'ip', 'set_field:1->ip_dscp,output:2'],
  ['tcp', 'ip', 'set_field:10.8.0.0/255.255.0.0->ip_dst,output:2'],
  ['tcp', 'in_port=1', 'set_field:02:00:00:00:00:09->eth_dst,set_field:02:00:00:00:00:08->eth_src,output:2'],
  ['udp', 'udp', 'set_field:7->udp_src,output:2'],
  ['sctp', 'sctp', 'set_field:7->sctp_dst,output:2'],
  ['icmp', 'icmp,icmp_type=8', 'output:2'],
  ['icmp', 'icmp', 'set_field:0->icmp_type,output:2'],
  ['solicitation', 'icmp6,icmp_type=135,icmp_code=0,nd_target=fe80::3', 'output:2'],
  ['tcp6', 'ipv6', 'set_field:fe80::9->ipv6_src,set_field:0x777->ipv6_label,output:2'],
  ['tcp6', 'ipv6,ipv6_label=0x12345', 'dec_ttl,output:2'],
  ['arp', 'arp,arp_op=1,arp_tpa=10.9.0.2', 'output:2'],
  ['tcp', 'in_port=1', 'set_queue:5,output:2'],
  ['tcp', 'in_port=1', 'set_field:0x7->pkt_mark,output:2'],
  ['tcp', 'in_port=1', 'set_field:0x7/0xf->pkt_mark,output:2'],
  // MPLS.
  ['mpls', 'mpls,mpls_label=100', 'set_field:55->mpls_label,output:2'],
  ['mpls', 'mpls', 'dec_mpls_ttl,output:2'],
  ['mpls', 'mpls', 'pop_mpls:0x0800,output:2'],
  ['mplsTwo', 'mpls', 'pop_mpls:0x8847,output:2'],
  ['tcp', 'ip', 'push_mpls:0x8847,set_field:77->mpls_label,push_mpls:0x8847,set_field:78->mpls_label,output:2'],
  ['tcp', 'in_port=1', `encap(mpls),set_field:33->mpls_label,${ENCAP_ETHERNET}`],
  // NSH.
  [
    'tcp',
    'in_port=1',
    `encap(nsh(md_type=1)),set_field:0x1234->nsh_spi,set_field:7->nsh_si,set_field:0x11->nsh_c1,${ENCAP_ETHERNET}`,
  ],
  ['tcp', 'in_port=1', `encap(nsh(md_type=2,tlv(0x1000,10,0x12345678),tlv(0x2000,20,0xfedcba98))),${ENCAP_ETHERNET}`],
  ['tcp', 'in_port=1', `encap(nsh(md_type=2)),${ENCAP_ETHERNET}`],
  ['tcp', 'in_port=1', `clone(encap(nsh),${ENCAP_ETHERNET}),output:2`],
  ['nsh1', 'eth_type=0x894f', 'set_field:9->nsh_si,output:2'],
  ['nsh1', 'eth_type=0x894f,nsh_mdtype=1,nsh_spi=0x123', 'set_field:0x99->nsh_c2,set_field:5->nsh_ttl,output:2'],
  [
    'nsh1',
    'eth_type=0x894f,nsh_flags=0,nsh_ttl=63,nsh_mdtype=1,nsh_np=3,nsh_spi=0x123,nsh_si=5,nsh_c1=1,nsh_c2=2,nsh_c3=3,nsh_c4=4',
    'set_field:9->nsh_si,output:2',
  ],
  ['nsh1', 'eth_type=0x894f', 'dec_nsh_ttl,output:2'],
  ['nsh1', 'eth_type=0x894f,nsh_c1=1', 'decap(),decap(),output:2'],
  ['nsh2', 'eth_type=0x894f', 'decap(),decap(),output:2'],
  ['tcp', 'in_port=1', `decap(),${ENCAP_ETHERNET}`],
  // Lists in lists.
  ['tcp', 'in_port=1', 'clone(push_vlan:0x8100,set_field:4105->vlan_vid,output:2),output:2'],
  ['tcp', 'in_port=1', `sample(probability=30000,${SAMPLE}),output:2`],
  ['tcp', 'in_port=1', `sample(probability=65535,${SAMPLE},sampling_port=2),output:2`],
  ['tcp', 'in_port=1', `sample(probability=65535,${SAMPLE},sampling_port=10),output:10`],
  ['tcp', 'in_port=1', 'check_pkt_larger(100)->NXM_NX_REG0[0],resubmit(,5)'],
  // Ways out.
  ['tcp', 'in_port=1', 'drop'],
  ['tcp', 'in_port=1', 'output(port=2,max_len=100)'],
  ['tcp', 'in_port=1', 'controller(max_len=100,id=0)'],
  ['tcp', 'in_port=1', 'output:2,controller(max_len=65535,userdata=01.02.03,meter_id=1)'],
  ['tcp', 'in_port=1', 'meter:1,output:2'],
  ['tcp', 'in_port=1', 'group:1'],
  ['tcp', 'in_port=1', 'group:2'],
  // Tunnels.
  ['tcp', 'in_port=1', 'set_field:0x55->tun_id,output:10'],
  [
    'tcp',
    'in_port=1',
    'set_field:0x55->tun_id,set_field:0x1234->tun_metadata0,set_field:0xabc->tun_metadata1,output:11',
  ],
  ['tcp', 'in_port=1', 'output:12'],
  ['tcp', 'in_port=1', 'set_field:0x55->tun_id,set_field:7->tun_gbp_id,output:13'],
  ['tcp', 'in_port=1', 'set_field:0x5->tun_id,output:14'],
];

const IP = 'in_port(1),eth(),eth_type(0x0800),ipv4()';
const TUNNEL = 'src=1.1.1.1,dst=2.2.2.2,ttl=64';

/** A match and actions, for ovs-dpctl add-flow. */
export const DPCTL_FLOWS: readonly [match: string, actions: string][] = [
  // Keys of packets out of tunnels.
  [`tunnel(tun_id=0x5/0xff,${TUNNEL},flags(df|key)),${IP}`, '1'],
  [`tunnel(tun_id=0x5,ipv6_src=fd00::1,ipv6_dst=fd00::/ffff::,tos=0x3,ttl=64/0,flags(key)),${IP}`, '1'],
  [
    `tunnel(tun_id=0x5,${TUNNEL},tp_src=1/0,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x1234/0xffff}{class=0x3,type=0x1,len=8,0x5/0}),flags(csum|key)),${IP}`,
    '1',
  ],
  [`tunnel(tun_id=0x5,${TUNNEL},vxlan(gbp(id=7/0xff,flags=0x8)),flags(key)),${IP}`, '1'],
  // Keys that rules seldom lead to.
  ['in_port(7),skb_mark(0x9/0xf),skb_priority(0x3),eth(dst=01:00:00:00:00:00/01:00:00:00:00:00),eth_type(0x88cc)', '1'],
  ['eth(),eth_type(0x88cc)', '1'],
  ['recirc_id(0x5),dp_hash(0x3/0xf),in_port(3),eth(),eth_type(0x0800),ipv4(proto=132),sctp(src=9)', 'recirc(6)'],
  ['in_port(1),packet_type(ns=1,id=0x0800),eth_type(0x0800),ipv4()', '1'],
  ['in_port(1),eth(),eth_type(0x8847),mpls(label=100,tc=3,ttl=64,bos=0,label=200/0xff,tc=0,ttl=1,bos=1)', '1'],
  [
    'in_port(1),eth(),eth_type(0x86dd),ipv6(frag=no,proto=58),icmpv6(type=136,code=0),nd(target=fe80::/ffff::,sll=02:00:00:00:00:00/ff:00:00:00:00:00)',
    'set(ipv6(dst=::9/::ffff)),1',
  ],
  // Actions that rules seldom lead to.
  [IP, 'set(tunnel(tun_id=0x9,dst=3.3.3.3,ttl=64,flags(df|key))),1'],
  [IP, 'set(tunnel(tun_id=0x9,src=1.1.1.1,dst=3.3.3.3,tos=0x4,ttl=64,flags(df|csum|key),tp_src=1,tp_dst=2)),1'],
  [IP, 'userspace(pid=7,userdata(0102030405),actions,tunnel_out_port=3),1'],
  [IP, 'userspace(pid=7,slow_path(cfm))'],
  [IP, 'sample(sample=12.5%,actions(clone(trunc(100),1),set(ipv4(ttl=1)),2)),3'],
  [IP, 'clone(clone(push_vlan(tpid=0x88a8,vid=1,pcp=2,cfi=1),1)),2'],
  [IP, 'check_pkt_len(size=200,gt(check_pkt_len(size=300,gt(drop),le(1))),le(2,3))'],
  [IP, 'push_nsh(flags=1,ttl=9,mdtype=1,np=3,spi=0x7,si=8,c1=0x1,c2=0x2,c3=0x3,c4=0x4),1'],
  [IP, 'push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x7,si=8,md2=0x1000040112345678),1'],
  [IP, 'ct(commit,zone=5,mark=0x1/0xf,label=0x5/0xff,nat(src=10.0.0.1-10.0.0.9:5-50,persistent,hash)),1'],
  [IP, 'ct(zone=1,nat),recirc(1)'],
  [IP, 'ct(force_commit,helper=ftp,timeout=tp1,nat(dst=1.1.1.1))'],
  [IP, 'ct_clear,1'],
  // Its number is another action's in the kernel.
  [IP, 'drop'],
];
