/**
 * The kinds of programs, maps, attach points and links, with the kernel that first has each where a caller may still meet
 * an older one (linux/bpf.h). Neighbours: feature/probe.ts asks the running kernel, the loader and the maps take numbers here.
 */

/** Program type by name. */
export const PROGRAM_TYPE = {
  socket_filter: 1,
  kprobe: 2,
  sched_cls: 3,
  sched_act: 4,
  tracepoint: 5,
  xdp: 6,
  perf_event: 7,
  cgroup_skb: 8,
  cgroup_sock: 9,
  lwt_in: 10,
  lwt_out: 11,
  lwt_xmit: 12,
  sock_ops: 13,
  sk_skb: 14,
  cgroup_device: 15,
  sk_msg: 16,
  raw_tracepoint: 17,
  cgroup_sock_addr: 18,
  lwt_seg6local: 19,
  sk_reuseport: 21,
  flow_dissector: 22,
  cgroup_sysctl: 23,
  raw_tracepoint_writable: 24,
  cgroup_sockopt: 25,
  tracing: 26,
  struct_ops: 27,
  ext: 28,
  lsm: 29,
  sk_lookup: 30,
  syscall: 31,
  netfilter: 32,
} as const;

/** A program type's name; 'sched_cls' is the type of TC programs. */
export type ProgramType = keyof typeof PROGRAM_TYPE;

/** Map type by name. */
export const MAP_TYPE = {
  hash: 1,
  array: 2,
  prog_array: 3,
  perf_event_array: 4,
  percpu_hash: 5,
  percpu_array: 6,
  stack_trace: 7,
  lru_hash: 9,
  lru_percpu_hash: 10,
  lpm_trie: 11,
  array_of_maps: 12,
  hash_of_maps: 13,
  devmap: 14,
  sockmap: 15,
  cpumap: 16,
  xskmap: 17,
  sockhash: 18,
  queue: 22,
  stack: 23,
  devmap_hash: 25,
  ringbuf: 27,
  bloom_filter: 30,
  user_ringbuf: 31,
} as const;

/** A map type's name. */
export type MapType = keyof typeof MAP_TYPE;

/** Attach type by name: what LINK_CREATE, PROG_QUERY and `expectedAttachType` take. */
export const ATTACH_TYPE = {
  cgroup_inet_ingress: 0,
  cgroup_inet_egress: 1,
  cgroup_inet_sock_create: 2,
  cgroup_sock_ops: 3,
  cgroup_device: 6,
  flow_dissector: 17,
  trace_raw_tp: 23,
  trace_fentry: 24,
  trace_fexit: 25,
  xdp_devmap: 33,
  xdp_cpumap: 35,
  sk_lookup: 36,
  xdp: 37,
  perf_event: 41,
  netfilter: 45,
  tcx_ingress: 46,
  tcx_egress: 47,
  netkit_primary: 54,
  netkit_peer: 55,
} as const;

/** An attach type's name. */
export type AttachType = keyof typeof ATTACH_TYPE;

/** Link type by name. */
export const LINK_TYPE = {
  raw_tracepoint: 1,
  tracing: 2,
  cgroup: 3,
  iter: 4,
  netns: 5,
  xdp: 6,
  perf_event: 7,
  kprobe_multi: 8,
  struct_ops: 9,
  netfilter: 10,
  tcx: 11,
  uprobe_multi: 12,
  netkit: 13,
} as const;

/** A link type's name. */
export type LinkType = keyof typeof LINK_TYPE;

/** The first Linux of each program type that is younger than 4.8. */
export const PROGRAM_TYPE_SINCE: Partial<Record<ProgramType, string>> = {
  xdp: '4.8',
  perf_event: '4.9',
  cgroup_skb: '4.10',
  cgroup_sock: '4.10',
  lwt_in: '4.10',
  lwt_out: '4.10',
  lwt_xmit: '4.10',
  sock_ops: '4.13',
  sk_skb: '4.14',
  cgroup_device: '4.15',
  sk_msg: '4.17',
  raw_tracepoint: '4.17',
  cgroup_sock_addr: '4.17',
  lwt_seg6local: '4.18',
  sk_reuseport: '4.19',
  flow_dissector: '4.20',
  cgroup_sysctl: '5.2',
  raw_tracepoint_writable: '5.2',
  cgroup_sockopt: '5.3',
  tracing: '5.5',
  struct_ops: '5.6',
  ext: '5.6',
  lsm: '5.7',
  sk_lookup: '5.9',
  syscall: '5.14',
  netfilter: '6.4',
};

/** The first Linux of each map type. */
export const MAP_TYPE_SINCE: Record<MapType, string> = {
  hash: '3.19',
  array: '3.19',
  prog_array: '4.2',
  perf_event_array: '4.3',
  percpu_hash: '4.6',
  percpu_array: '4.6',
  stack_trace: '4.6',
  lru_hash: '4.10',
  lru_percpu_hash: '4.10',
  lpm_trie: '4.11',
  array_of_maps: '4.12',
  hash_of_maps: '4.12',
  devmap: '4.14',
  sockmap: '4.14',
  cpumap: '4.15',
  xskmap: '4.18',
  sockhash: '4.18',
  queue: '4.20',
  stack: '4.20',
  devmap_hash: '5.4',
  ringbuf: '5.8',
  bloom_filter: '5.16',
  user_ringbuf: '6.1',
};

function inverse<Name extends string>(table: Readonly<Record<Name, number>>): ReadonlyMap<number, Name> {
  return new Map(Object.entries(table).map(([name, value]) => [value as number, name as Name]));
}

const programTypes = inverse(PROGRAM_TYPE);
const mapTypes = inverse(MAP_TYPE);
const linkTypes = inverse(LINK_TYPE);

/** The name of a program type; 'type 99' for one this library does not know. */
export function programTypeName(type: number): ProgramType | `type ${number}` {
  return programTypes.get(type) ?? `type ${type}`;
}

/** The name of a map type; 'type 99' for one this library does not know. */
export function mapTypeName(type: number): MapType | `type ${number}` {
  return mapTypes.get(type) ?? `type ${type}`;
}

/** The name of a link type; 'type 99' for one this library does not know. */
export function linkTypeName(type: number): LinkType | `type ${number}` {
  return linkTypes.get(type) ?? `type ${type}`;
}

/** What an XDP program returns. */
export const XDP = { ABORTED: 0, DROP: 1, PASS: 2, TX: 3, REDIRECT: 4 } as const;

/** What a TC program returns. `NEXT` hands on to the next program of the list. */
export const TC = { NEXT: -1, OK: 0, RECLASSIFY: 1, SHOT: 2, STOLEN: 4, REDIRECT: 7 } as const;

/** Byte offsets of the fields of `struct xdp_md`, an XDP program's context; every field is a u32. */
export const XDP_MD = {
  data: 0,
  dataEnd: 4,
  dataMeta: 8,
  ingressIfindex: 12,
  rxQueueIndex: 16,
  egressIfindex: 20,
} as const;

/** Byte offsets of the fields of `struct __sk_buff`, a TC program's context, that are most used; every field is a u32. */
export const SK_BUFF = {
  len: 0,
  pktType: 4,
  mark: 8,
  queueMapping: 12,
  protocol: 16,
  vlanPresent: 20,
  vlanTci: 24,
  vlanProto: 28,
  priority: 32,
  ingressIfindex: 36,
  ifindex: 40,
  tcIndex: 44,
  cb: 48,
  hash: 68,
  tcClassid: 72,
  data: 76,
  dataEnd: 80,
  napiId: 84,
  dataMeta: 140,
  tstamp: 152,
  wireLen: 160,
  gsoSegs: 164,
  gsoSize: 176,
} as const;
