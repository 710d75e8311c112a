/** The numbers of Linux's netlink about connections: linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nfnetlink_cttimeout.h. */

/** Message types are a subsystem in the upper byte and a command in the lower one. */
export const Subsystem = { CONNECTIONS: 1, EXPECTATIONS: 2, TIME_OUTS: 8 } as const;

/** IPCTNL_MSG_CT_*. */
export const ConnectionCommand = {
  NEW: 0,
  GET: 1,
  DELETE: 2,
  GET_AND_ZERO: 3,
  CPU_STATISTICS: 4,
  STATISTICS: 5,
  DYING: 6,
  UNCONFIRMED: 7,
} as const;

/** IPCTNL_MSG_EXP_*. */
export const ExpectationCommand = { NEW: 0, GET: 1, DELETE: 2, CPU_STATISTICS: 3 } as const;

/** IPCTNL_MSG_TIMEOUT_*. */
export const TimeOutCommand = { NEW: 0, GET: 1, DELETE: 2, DEFAULT_SET: 3, DEFAULT_GET: 4 } as const;

/** Families of addresses. */
export const AF_INET = 2;
export const AF_INET6 = 10;

/** CTA_*: the attributes of a connection. */
export const Cta = {
  TUPLE_ORIGINAL: 1,
  TUPLE_REPLY: 2,
  STATUS: 3,
  PROTOCOL_INFO: 4,
  HELPER: 5,
  NAT_SOURCE: 6,
  TIME_OUT: 7,
  MARK: 8,
  USE: 11,
  ID: 12,
  NAT_DESTINATION: 13,
  TUPLE_MASTER: 14,
  SEQUENCE_ORIGINAL: 15,
  SEQUENCE_REPLY: 16,
  ZONE: 18,
  MARK_MASK: 21,
  LABELS: 22,
  LABELS_MASK: 23,
  FILTER: 25,
  STATUS_MASK: 26,
  EVENT_TIME: 27,
} as const;
export const CTA_MAXIMUM = 27;

/** CTA_TUPLE_*. */
export const CtaTuple = { IP: 1, PROTOCOL: 2, ZONE: 3 } as const;

/** CTA_IP_*. */
export const CtaIp = { SOURCE_V4: 1, DESTINATION_V4: 2, SOURCE_V6: 3, DESTINATION_V6: 4 } as const;

/** CTA_PROTO_*. */
export const CtaProtocol = {
  NUMBER: 1,
  SOURCE_PORT: 2,
  DESTINATION_PORT: 3,
  ICMP_ID: 4,
  ICMP_TYPE: 5,
  ICMP_CODE: 6,
  ICMPV6_ID: 7,
  ICMPV6_TYPE: 8,
  ICMPV6_CODE: 9,
} as const;

/** CTA_PROTOINFO_*, and what lies in its nests. */
export const CtaInfo = { TCP: 1, SCTP: 3 } as const;
export const CtaTcp = { STATE: 1, SCALE_ORIGINAL: 2, SCALE_REPLY: 3, FLAGS_ORIGINAL: 4, FLAGS_REPLY: 5 } as const;
export const CtaSctp = { STATE: 1, TAG_ORIGINAL: 2, TAG_REPLY: 3 } as const;

/** CTA_HELP_NAME. */
export const CTA_HELPER_NAME = 1;

/** CTA_STATS_*, of one processor. */
export const CtaStatistics = {
  FOUND: 2,
  INVALID: 4,
  INSERTED: 8,
  INSERT_FAILED: 9,
  DROPPED: 10,
  EARLY_DROPPED: 11,
  ERROR: 12,
  SEARCH_RESTARTED: 13,
  CLASH_RESOLVED: 14,
  CHAIN_TOO_LONG: 15,
} as const;

/** CTA_STATS_GLOBAL_*. */
export const CtaGlobal = { ENTRIES: 1, MAXIMUM: 2 } as const;

/** CTA_TIMEOUT_*. */
export const CtaTimeOut = { NAME: 1, FAMILY: 2, PROTOCOL: 3, DATA: 4, USE: 5 } as const;
export const CTA_TIME_OUT_MAXIMUM = 5;
