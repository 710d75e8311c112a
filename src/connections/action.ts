/** What is asked of tracking and what it answers: the request of one place in a program of flows, made once, and the state of one packet, filled again for each. */
import { ConnectionEvent } from './events.ts';
import { POLICIES, Settings, TUPLE_WORDS } from './layout.ts';
import { NatRange, type NatSettings, type NatTarget } from './nat.ts';
import { Helper, type HelperName, helperNamed } from './related/known-helpers.ts';

/** Bits of a packet's connection state: OVS_CS_F_* (linux/openvswitch.h). */
export const ConnectionState = {
  /** It begins a connection, or belongs to one that nobody has answered yet. */
  NEW: 0x01,
  ESTABLISHED: 0x02,
  /** Its connection was announced by another one, or it is an error about a packet of the connection. */
  RELATED: 0x04,
  REPLY: 0x08,
  INVALID: 0x10,
  TRACKED: 0x20,
  SOURCE_NAT: 0x40,
  DESTINATION_NAT: 0x80,
  NAT: 0xc0,
} as const;

/** Why a packet may not go on. */
export const Refusal = {
  NONE: 0,
  /** The zone has as many connections as it may have. */
  ZONE_LIMIT: 1,
  /** There is no record, and none that may go. */
  TABLE_FULL: 2,
  /** All addresses and ports of the range are in use. */
  NAT_EXHAUSTED: 3,
  /** Another connection's packets come back by the same tuple, and no translation may tell them apart. */
  CLASH: 4,
  /** A helper has no room in the packet for a longer address. */
  HELPER_ROOM: 5,
  /** A router tells the sender of a translated packet another way, which would go around the translation. */
  REDIRECT: 6,
} as const;

/** The names of refusals, by number: what drops are counted and shown as. */
export const REFUSAL_NAMES: readonly string[] = [
  'none',
  'zone-limit',
  'table-full',
  'nat-exhausted',
  'connection-clash',
  'helper-room',
  'redirect',
];

/** A request as plain data. */
export interface ConnectionRequest {
  /** 0 when not given. */
  readonly zone?: number;
  /** Keep the connection; without it packets are only looked at. */
  readonly commit?: boolean;
  /** The packet's direction is the connection's: one that is the other way round is ended and begun anew. */
  readonly force?: boolean;
  readonly mark?: { readonly value: number; readonly mask: number };
  /** Four words each, the first is the highest. */
  readonly label?: { readonly value: readonly number[]; readonly mask: readonly number[] };
  /** Translate packets of translated connections, and new ones as told. */
  readonly nat?: { readonly source?: NatTarget; readonly destination?: NatTarget };
  /** With a commit: what reads the connection's packets for others that they announce. A connection that was committed without one gets it as well. */
  readonly helper?: HelperName;
  /** Number of a time-out policy. */
  readonly policy?: number;
  /** Bits of ConnectionEvent; all when not given. */
  readonly events?: number;
  /** TCP connections that are established get no packets called invalid for their sequence numbers, as openvswitch.ko has it. */
  readonly liberal?: boolean;
}

/** A request that was checked. */
export class ConnectionAction {
  readonly zone: number;
  readonly isCommitted: boolean;
  readonly isForced: boolean;
  readonly isLiberal: boolean;
  readonly markValue: number;
  readonly markMask: number;
  readonly labelValue = new Int32Array(4);
  readonly labelMask = new Int32Array(4);
  readonly hasLabel: boolean;
  readonly nat: NatSettings | null;
  /** Number of the helper that connections get; only commits have one. */
  readonly helper: number;
  /** The settings word of records that it makes. */
  readonly settings: number;

  /** @throws RangeError for what cannot be */
  constructor(request: ConnectionRequest) {
    const { zone = 0, policy = 0, events = ConnectionEvent.ALL } = request;
    if (!Number.isInteger(zone) || zone < 0 || zone > 0xffff) throw new RangeError(`${zone} is no zone`);
    if (!Number.isInteger(policy) || policy < 0 || policy >= POLICIES) throw new RangeError(`${policy} is no policy`);
    this.zone = zone;
    this.isForced = request.force ?? false;
    this.isCommitted = this.isForced || (request.commit ?? false);
    this.isLiberal = request.liberal ?? false;
    this.markMask = (request.mark?.mask ?? 0) | 0;
    this.markValue = (request.mark?.value ?? 0) & this.markMask;
    for (let i = 0; i < 4; i += 1) {
      this.labelMask[i] = request.label?.mask[i] ?? 0;
      this.labelValue[i] = (request.label?.value[i] ?? 0) & this.labelMask[i];
    }
    this.hasLabel = this.labelMask.some((word) => word !== 0);
    this.nat = natSettings(request);
    const helper = request.helper === undefined || !this.isCommitted ? undefined : helperNamed(request.helper);
    this.helper = helper?.number ?? Helper.NONE;
    // The upper half word: events beyond it have no bit in Linux either.
    this.settings = ((events & 0xffff) << Settings.EVENTS_SHIFT) | policy;
  }
}

function natSettings({ nat, commit, force }: ConnectionRequest): NatSettings | null {
  if (nat === undefined) return null;
  const source = nat.source === undefined ? null : new NatRange(nat.source);
  const destination = nat.destination === undefined ? null : new NatRange(nat.destination);
  if ((source ?? destination) !== null && commit !== true && force !== true) {
    throw new RangeError('addresses are chosen for connections that are committed');
  }
  if (source !== null && destination !== null && source.isIpv6 !== destination.isIpv6) {
    if (source.addresses > 0 && destination.addresses > 0) {
      throw new RangeError('source and destination are of different IP versions');
    }
  }
  return { source, destination };
}

/** What tracking says of a packet. Belongs to the packet for as long as it is on its way: later requests in the same zone rest on it. */
export class Tracked {
  /** Bits of {@link ConnectionState}; 0 before the packet was tracked. */
  state = 0;
  zone = 0;
  mark = 0;
  /** Four words, the first is the highest. */
  readonly label = new Int32Array(4);
  /** The record, or 0 when there is none: the packet is invalid, or begins a connection that is not committed. */
  record = 0;
  direction = 0;
  /** The original tuple of the connection, or of the one that announced it: kind (0 when there is none), then words as in `Tuple`. */
  originalKind = 0;
  readonly original = new Int32Array(TUPLE_WORDS);
  /** Why it is invalid, one of Untracked; 0 when its protocol's state machine says so, or it is not invalid. */
  reason = 0;

  /** Another packet, or the connection of this one is forgotten. */
  clear(): void {
    this.begin(0);
    this.original.fill(0);
  }

  /** @internal */
  begin(zone: number): void {
    this.state = 0;
    this.zone = zone;
    this.mark = 0;
    this.label.fill(0);
    this.record = 0;
    this.direction = 0;
    this.originalKind = 0;
    this.reason = 0;
  }

  /** @internal @param at where the tuple's words begin */
  setOriginal(kind: number, words: Int32Array, at: number): void {
    this.originalKind = kind;
    for (let i = 0; i < TUPLE_WORDS; i += 1) this.original[i] = words[at + i];
  }
}
