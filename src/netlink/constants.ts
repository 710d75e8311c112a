/** Numbers of linux/netlink.h that are common to all netlink families. */

/** Reserved message types (nlmsg_type). Families number their own from MIN_TYPE. */
export const Nlmsg = {
  NOOP: 1,
  ERROR: 2,
  DONE: 3,
  OVERRUN: 4,
  MIN_TYPE: 0x10,
} as const;

/** Message flags (nlmsg_flags). The upper byte means different things for GET, NEW and DELETE requests and acknowledgements. */
export const NlmFlag = {
  REQUEST: 0x01,
  MULTI: 0x02,
  ACK: 0x04,
  ECHO: 0x08,
  /** The dump was not consistent: something changed under it. */
  DUMP_INTR: 0x10,
  DUMP_FILTERED: 0x20,
  /** GET: all objects of the table. ROOT and MATCH together. */
  DUMP: 0x300,
  ROOT: 0x100,
  MATCH: 0x200,
  /** NEW: replace an existing object. */
  REPLACE: 0x100,
  /** NEW: fail when the object exists. */
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
  /** DELETE: several objects at once. */
  BULK: 0x200,
  /** Acknowledgement: of the request only its header is quoted. */
  CAPPED: 0x100,
  /** Acknowledgement: attributes follow. */
  ACK_TLVS: 0x200,
} as const;

/** Netlink protocols: the third argument of socket(AF_NETLINK, ...). */
export const NetlinkProtocol = {
  ROUTE: 0,
  NETFILTER: 12,
  GENERIC: 16,
} as const;

/** Length of struct nlmsghdr. */
export const MESSAGE_HEADER_BYTES = 16;
/** Length of struct nlattr. */
export const ATTRIBUTE_HEADER_BYTES = 4;
/** nla_type: the content is attributes. */
export const NLA_F_NESTED = 0x8000;
/** nla_type without its flags. */
export const NLA_TYPE_MASK = 0x3fff;
