/** Commands and flag bits of bpf(2) (linux/bpf.h). Neighbours: sys/bpf.ts makes the calls, uapi/kinds.ts names the objects. */

/** First argument of bpf(2). */
export const COMMAND = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  MAP_GET_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  PROG_ATTACH: 8,
  PROG_DETACH: 9,
  PROG_TEST_RUN: 10,
  PROG_GET_NEXT_ID: 11,
  MAP_GET_NEXT_ID: 12,
  PROG_GET_FD_BY_ID: 13,
  MAP_GET_FD_BY_ID: 14,
  OBJ_GET_INFO_BY_FD: 15,
  PROG_QUERY: 16,
  BTF_LOAD: 18,
  MAP_LOOKUP_AND_DELETE_ELEM: 21,
  MAP_FREEZE: 22,
  MAP_LOOKUP_BATCH: 24,
  MAP_LOOKUP_AND_DELETE_BATCH: 25,
  MAP_UPDATE_BATCH: 26,
  MAP_DELETE_BATCH: 27,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_GET_FD_BY_ID: 30,
  LINK_GET_NEXT_ID: 31,
  LINK_DETACH: 34,
  PROG_BIND_MAP: 35,
} as const;

/** A command's name, for messages. */
export function commandName(command: number): string {
  for (const [name, value] of Object.entries(COMMAND)) if (value === command) return `BPF_${name}`;
  return `bpf command ${command}`;
}

/** Flags of a map, given when it is created. */
export const MAP_FLAG = {
  NO_PREALLOC: 1 << 0,
  NO_COMMON_LRU: 1 << 1,
  NUMA_NODE: 1 << 2,
  /** The descriptor may only read. */
  RDONLY: 1 << 3,
  /** The descriptor may only write. */
  WRONLY: 1 << 4,
  /** Programs may only read. */
  RDONLY_PROG: 1 << 7,
  /** Programs may only write. */
  WRONLY_PROG: 1 << 8,
  /** An array whose values can be mapped (Linux 5.5). */
  MMAPABLE: 1 << 10,
  /** Entries of a perf event array outlive the descriptor that set them. */
  PRESERVE_ELEMS: 1 << 11,
  /** An inner array may differ in size from the template (Linux 5.10). */
  INNER_MAP: 1 << 12,
} as const;

/** Flags of one update. ANY creates or replaces. */
export const UPDATE_FLAG = { ANY: 0, NOEXIST: 1, EXIST: 2, LOCK: 4 } as const;

/** Flags of PROG_LOAD. */
export const LOAD_FLAG = {
  STRICT_ALIGNMENT: 1 << 0,
  ANY_ALIGNMENT: 1 << 1,
  SLEEPABLE: 1 << 4,
  XDP_HAS_FRAGS: 1 << 5,
} as const;

/** Flags of PROG_TEST_RUN. */
export const TEST_FLAG = { ON_CPU: 1 << 0, XDP_LIVE_FRAMES: 1 << 1, SKB_CHECKSUM_COMPLETE: 1 << 2 } as const;

/** Flags of LINK_CREATE on a list of programs (TCX), and REPLACE of LINK_UPDATE. */
export const LINK_FLAG = {
  REPLACE: 1 << 2,
  BEFORE: 1 << 3,
  AFTER: 1 << 4,
  /** The anchor is named by id, not by descriptor. */
  ID: 1 << 5,
  /** The anchor is a link, not a program. */
  LINK: 1 << 13,
} as const;

/** Attach mode of XDP (linux/if_link.h). */
export const XDP_FLAG = {
  UPDATE_IF_NOEXIST: 1 << 0,
  GENERIC: 1 << 1,
  DRIVER: 1 << 2,
  HARDWARE: 1 << 3,
  REPLACE: 1 << 4,
} as const;
