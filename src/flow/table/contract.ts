/** What users of the flow table say to it and hear from it: puts, their errors, and observers. table.ts is the table. */

/** Why a flow was not put: the negative errno numbers that openvswitch.ko would answer. */
export const FlowError = {
  /** No such flow to modify (ENOENT). */
  NOT_FOUND: -2,
  /** Another flow matches this key already, or has this identifier (EEXIST). */
  EXISTS: -17,
  /** A key or mask of the wrong length, an identifier or action list that is too long (EINVAL). */
  INVALID: -22,
  /** The table is full (ENOSPC). */
  FULL: -28,
} as const;

/** What a put may do. */
export const PutMode = {
  /** Only add; refuse when the flow is there (NLM_F_CREATE). */
  CREATE: 1,
  /** Only change the actions of a flow that is there (OVS_FLOW_CMD_SET). */
  MODIFY: 2,
  /** Whichever is needed. */
  CREATE_OR_MODIFY: 3,
} as const;

/** One flow to put. Everything is copied. */
export interface FlowPut {
  /** The key as it was given; bits outside the mask do not count but are kept for flows without an identifier. */
  readonly key: Uint32Array;
  readonly mask: Uint32Array;
  /** A valid action list (see actions/); none to drop. */
  readonly actions: Int32Array;
  /** 1 to 16 bytes, or null for a flow that goes by its key. */
  readonly ufid: Uint8Array | null;
  /** One of {@link PutMode}. */
  readonly mode: number;
  /** Flows of this table that match the same packet say the same: only one of the same mask and masked key is this flow already. */
  readonly mayOverlap?: boolean;
}

/** Whoever wants to know what changes, such as an offload. At every call the flow's slot can be read, also when it is about to go. */
export interface FlowObserver {
  flowAdded(slot: number): void;
  /** The flow has other actions now. */
  flowModified(slot: number): void;
  flowRemoved(slot: number): void;
  /** The flow is offered no longer, but still there: what is counted for it late can be told. Left out, it counts as removed. */
  flowWithdrawn?(slot: number): void;
  /** All flows at once are about to go; no flowRemoved is called for them. */
  flowsFlushed(): void;
  /** Somebody is about to read statistics: of one flow, or of all for -1. Bring what was counted elsewhere, see addCounts. */
  statisticsWanted?(slot: number): void;
}

export interface FlowTableOptions {
  /** Most flows; 1,048,576 when left out. */
  maximumFlows?: number;
  /** Entries of the flow cache, a power of two of at least 4; 262,144 when left out. */
  cacheEntries?: number;
  /** For tests that must repeat; random when left out. */
  seed?: readonly [number, number];
}
