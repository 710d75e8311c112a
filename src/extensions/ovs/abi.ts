/** The numbers of linux/openvswitch.h, and those that are ours: family ids, groups and the frames of the pseudo device. */

/** Kinds of frames on the pseudo device; native/millrace-shim.c has the drawing. */
export const Frame = { DATAGRAM: 0, DONE: 1, JOIN: 2, LEAVE: 3, WHO: 4, MORE: 5, BUNDLE: 6, HELLO: 9 } as const;

/** The second word of a DONE, behind the errno: a dump goes on, of which MORE asks for the next part. */
export const DONE_GOES_ON = 1;

/** The second word of a HELLO, behind the port id: shim and daemon must be of one make. */
export const PROTOCOL_VERSION = 3;

/** Family ids. Above the range that a kernel hands out, so that the shim can tell them from the kernel's own. */
export const Family = {
  DATAPATH: 0x7001,
  VPORT: 0x7002,
  FLOW: 0x7003,
  PACKET: 0x7004,
  METER: 0x7005,
  CT_LIMIT: 0x7006,
} as const;

/** Multicast groups. */
export const Group = { DATAPATH: 0x7001, VPORT: 0x7002, FLOW: 0x7003, METER: 0x7005, CT_LIMIT: 0x7006 } as const;

/** Longest name of a datapath or a port, without the 0 behind it (IFNAMSIZ). */
export const NAME_MAXIMUM_BYTES = 15;

/** Commands of ovs_datapath, ovs_vport and ovs_flow alike. */
export const Command = { NEW: 1, DEL: 2, GET: 3, SET: 4 } as const;

export const PacketCommand = { MISS: 1, ACTION: 2, EXECUTE: 3 } as const;

export const MeterCommand = { FEATURES: 1, SET: 2, DEL: 3, GET: 4 } as const;

export const DatapathAttribute = {
  NAME: 1,
  UPCALL_PID: 2,
  STATS: 3,
  MEGAFLOW_STATS: 4,
  USER_FEATURES: 5,
  MASKS_CACHE_SIZE: 7,
  PER_CPU_PIDS: 8,
  IFINDEX: 9,
} as const;

/** Bits of USER_FEATURES. */
export const Feature = { UNALIGNED: 1, VPORT_PIDS: 2, TC_RECIRC_SHARING: 4, DISPATCH_UPCALL_PER_CPU: 8 } as const;
export const FEATURES_KNOWN = 15;

export const VportAttribute = {
  PORT_NO: 1,
  TYPE: 2,
  NAME: 3,
  OPTIONS: 4,
  UPCALL_PID: 5,
  STATS: 6,
  PAD: 7,
  IFINDEX: 8,
  NETNSID: 9,
  UPCALL_STATS: 10,
} as const;

/** Attributes inside of VportAttribute.UPCALL_STATS. */
export const UpcallStatistic = { SUCCESS: 0, FAIL: 1 } as const;

export const VportType = { NETDEV: 1, INTERNAL: 2, GRE: 3, VXLAN: 4, GENEVE: 5, STT: 106 } as const;

export const FlowAttribute = {
  KEY: 1,
  ACTIONS: 2,
  STATS: 3,
  TCP_FLAGS: 4,
  USED: 5,
  CLEAR: 6,
  MASK: 7,
  PROBE: 8,
  UFID: 9,
  UFID_FLAGS: 10,
} as const;

/** Bits of UFID_FLAGS. */
export const UfidFlag = { OMIT_KEY: 1, OMIT_MASK: 2, OMIT_ACTIONS: 4 } as const;

export const PacketAttribute = {
  PACKET: 1,
  KEY: 2,
  ACTIONS: 3,
  USERDATA: 4,
  EGRESS_TUN_KEY: 5,
  PROBE: 8,
  MRU: 9,
  LEN: 10,
  HASH: 11,
  UPCALL_PID: 12,
} as const;

/** Bits of the upper word of PacketAttribute.HASH: computed by software, and over layer 4. */
export const PacketHash = { SOFTWARE: 1, LAYER_4: 2 } as const;

export const MeterAttribute = {
  ID: 1,
  KBPS: 2,
  STATS: 3,
  BANDS: 4,
  USED: 5,
  CLEAR: 6,
  MAX_METERS: 7,
  MAX_BANDS: 8,
} as const;

export const CtLimitCommand = { SET: 1, DEL: 2, GET: 3 } as const;

/** Port numbers are below this. */
export const PORTS_MAXIMUM = 0xffff;

/** A userspace action's pid that means: choose the socket of the processor (OVS_CB's per-cpu dispatch). */
export const PID_BY_CPU = 0xffff_ffff;
