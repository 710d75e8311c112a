/**
 * What is said on the control socket, as types: each method's parameters and result, and the events. The daemon's side is
 * control/methods.ts (which checks every request with zod), the other side client.ts. Names ending in `Bytes`, `Ms` and the like name units.
 */
import type { OffloadFlow, OffloadInfo, PortSummary } from '../keeper/index.ts';

export type { OffloadFlow, OffloadInfo, OffloadPortInfo } from '../keeper/index.ts';

/** Frames and bytes of a port, seen from the switch: received came in through it. */
export interface PortCounters {
  receivedPackets: number;
  receivedBytes: number;
  transmittedPackets: number;
  transmittedBytes: number;
  /** Lost in the kernel before Millrace saw them (a full ring). */
  receiveDropped: number;
  /** Were to leave by it and did not: it is down, they are too long, or the device did not take them. In its drops as well. */
  transmitDropped: number;
}

/** up: frames pass. down: the device is there, its link is not. missing: the device is not there. failed: it cannot be used. */
export type PortState = 'up' | 'down' | 'missing' | 'failed';

export interface PortInfo {
  name: string;
  /** Number of the port inside the switch. */
  id: number;
  kind: string;
  /** Interface or file behind the port; empty for memory. */
  device: string;
  state: PortState;
  /** Why the state is not `up`, or what else is to be known about it; null for nothing. */
  reason: string | null;
  /** The extension that uses the port under a name of its own, such as `ovs`; null for none. */
  user: string | null;
  /** The extension that added the port, which is not of the configuration then; null for one of the configuration. */
  addedBy: string | null;
  /** Of the interface. */
  mac: string | null;
  /** Source addresses that are let in; null: any. */
  allowedMacs: string[] | null;
  /** IP addresses that are bound to it; null: any may be used. */
  bindings: AddressBinding[] | null;
  mtuBytes: number | null;
  counters: PortCounters;
  /** Drops at this port by all reasons together. */
  drops: number;
  /** What the kernel does for it; null when that is nothing. See {@link OffloadPortInfo} for the rest. */
  offload: PortSummary | null;
  /** The port's section of the configuration. */
  config: Record<string, unknown>;
}

/** An IP address that a port may use. */
export interface AddressBinding {
  address: string;
  /** Null: every MAC address that is let in. */
  mac: string | null;
  origin: 'fixed' | 'dhcp' | 'nd';
  /** Null: all; 0 is untagged. */
  vlan: number | null;
  /** Null: it stays. */
  expiresInSeconds: number | null;
}

/** What a rule of a port's access control has matched. */
export interface AclCount {
  /** As it is in force: its direction is `in` or `out`. */
  rule: Record<string, unknown>;
  packets: number;
  bytes: number;
}

export interface DropCount {
  port: string;
  /** Stable name of the reason, such as ACL_DENIED. */
  reason: string;
  /** What the reason means, one sentence. */
  text: string;
  packets: number;
}

/** enabled and running, disabled by the user, or disabled because it crashed. */
export type ExtensionState = 'running' | 'disabled' | 'crashed';

export interface ExtensionInfo {
  name: string;
  type: string;
  /** Path of the module; null for a built-in. */
  module: string | null;
  state: ExtensionState;
  /** What the crash said; null otherwise. */
  error: string | null;
  /** How long it has kept packets, a sentence, when that is over two seconds; null otherwise. */
  keeps: string | null;
  /** What the extension itself reports. */
  counters: Record<string, number>;
}

export interface FdbEntry {
  mac: string;
  /** 0 is untagged. */
  vlan: number;
  port: string;
  static: boolean;
  /** Time since the address was last seen; null for static entries. */
  ageSeconds: number | null;
}

/** An address table that has no room: new addresses take the place of those that the port that has most has not used for longest. */
export interface FullAddressTable {
  /** The port that has most. */
  port: string;
  addresses: number;
  /** Addresses that made room for others since the table was made. */
  exchanged: number;
}

export interface Status {
  version: string;
  pid: number;
  startedAt: string;
  uptimeSeconds: number;
  socket: string;
  /** The file that the configuration came from; null when there was none. */
  configFile: string | null;
  ports: { total: number; up: number };
  /** Ports of which packets were dropped lately because they have more to hand up than their share. */
  overloaded: string[];
  extensions: ExtensionInfo[];
  learnedAddresses: number;
  /** The address table, when it is full; else null, and without the learning extension. */
  fullAddressTable: FullAddressTable | null;
  /** Connections that are tracked; null when none ever was. */
  connections: { connections: number; maximum: number } | null;
  memory: { residentBytes: number };
  /** CPU time of the whole process since it started. */
  cpuSeconds: number;
  counters: PortCounters;
  drops: number;
  /** Why the datapath thread does not answer, one sentence; all that it is asked for is then as it was last. Null while it does. */
  stuck: string | null;
}

export interface TraceStep {
  /** What handled the packet: 'ingress', an extension's name, a policy, a port. */
  stage: string;
  text: string;
  /** The port that the step is about, when it is about one. */
  port?: string;
  /** Of such a step: stage and text without the port, the text in two pieces where the port stands in it. The same for ports that are treated alike. */
  alike?: { stage: string; pieces: string[] };
}

export interface TraceResult {
  port: string;
  /** The frame in words, one line a layer. */
  frame: string[];
  steps: TraceStep[];
  /** Ports that would send it. */
  destinations: string[];
  /** Programs that would get it, such as ovs-vswitchd. */
  handedTo: string[];
  /** Why it is dropped; null when it is not. */
  drop: string | null;
}

/** What `config.apply` did. */
export interface ApplyResult {
  /** Sentences, in order. */
  steps: string[];
  applied: boolean;
}

/** One direction of a connection. */
export interface ConnectionEnds {
  source: string;
  destination: string;
  /** Of TCP, UDP and SCTP. */
  sourcePort?: number;
  destinationPort?: number;
  /** Of ICMP. */
  identifier?: number;
  type?: number;
  code?: number;
}

/** A connection as it was when it ended, or when something else happened to it. */
export interface EndedConnection {
  /** As long as the connection lasts, and for some time after, no other one has it. */
  id: number;
  zone: number;
  /** Of IP: 4 or 6. */
  version: number;
  /** tcp, udp, icmp, icmpv6, sctp, gre, or a number. */
  protocol: string;
  /** Of TCP and SCTP, as Linux names it; null for the others. */
  state: string | null;
  flags: ('expected' | 'replied' | 'assured' | 'source-nat' | 'destination-nat')[];
  original: ConnectionEnds;
  reply: ConnectionEnds;
  mark: number;
  /** 32 digits in hexadecimal. */
  label: string;
  /** What reads it for connections to come, such as `ftp`. */
  helper: string | null;
}

export interface ConnectionInfo extends EndedConnection {
  /** When no packet comes. */
  expiresInSeconds: number;
  /** Id of the connection that has announced it. */
  parent: number | null;
}

/** Which connections are meant: those that agree with all that is given. Addresses are addresses or prefixes. Ports and addresses are of the original direction, but for `address` and `port`: any end. */
export interface ConnectionFilterParams {
  id?: number | undefined;
  zone?: number | undefined;
  version?: number | undefined;
  /** Its name or number. */
  protocol?: string | undefined;
  source?: string | undefined;
  destination?: string | undefined;
  address?: string | undefined;
  sourcePort?: number | undefined;
  destinationPort?: number | undefined;
  port?: number | undefined;
  state?: string | undefined;
  mark?: { value: number; mask: number } | undefined;
  isReplied?: boolean | undefined;
  nat?: 'source' | 'destination' | 'any' | 'none' | undefined;
}

/** Some connections. `next` is where to go on; 0 at the end. What is there all the time is met once. */
export interface ConnectionPage {
  connections: ConnectionInfo[];
  next: number;
}

/** How many have been ended, and where to go on; 0 at the end. */
export interface ConnectionsEnded {
  ended: number;
  next: number;
}

export interface ConnectionStatistics {
  connections: number;
  maximum: number;
  /** Since the daemon started, as are all counts here. */
  created: number;
  /** By why they ended: expired, closed, flushed, replaced, evicted. */
  ended: Record<string, number>;
  /** New connections that were refused, by why. */
  refused: Record<string, number>;
  /** Packets that belong to no connection and begin none. */
  invalid: number;
  /** Those with most connections. */
  zones: { zone: number; connections: number; unreplied: number; limit: number | null }[];
  zonesInUse: number;
  /** Who has lost connections because there was no room, or no address to translate to: those with most. */
  pressure: ConnectionPressure[];
}

/** Connections of a zone that began at a port, where there was no room. */
export interface ConnectionPressure {
  zone: number;
  /** A port of the switch; of connections of Open vSwitch's flows the number of a port of their datapath; null where it is not known. */
  port: string | number | null;
  /** That went to make room for others. */
  evicted: number;
  /** New ones that were refused. */
  refused: number;
}

/** Limits of connections; null for none. */
export interface ConnectionLimits {
  /** Of all zones without one of their own. */
  default: number | null;
  zones: { zone: number; limit: number | null; connections: number }[];
}

/** Something that happened to a connection. */
export interface ConnectionChange {
  timeMs: number;
  type: 'new' | 'changed' | 'ended';
  /** What has changed, or why it ended. */
  what: string[];
  connection: EndedConnection;
}

/** `next` is where to go on. `lost` events were before these, and are gone, as they were not fetched in time. */
export interface ConnectionChanges {
  changes: ConnectionChange[];
  next: number;
  lost: number;
}

/** Something that happened. */
export interface DaemonEvent {
  /** Milliseconds since 1970. */
  timeMs: number;
  type:
    | 'port-added'
    | 'port-removed'
    | 'port-state'
    | 'port-offload'
    | 'extension-crashed'
    | 'extension-changed'
    | 'address-moved'
    | 'config-applied'
    | 'warning';
  /** Name of the port or the extension that it is about; empty when it is about neither. */
  subject: string;
  message: string;
}

/** What the client of a capture gets: pcapng bytes, or one {@link CapturedPacket} a line. */
export type CaptureFormat = 'pcapng' | 'json';

export interface CapturedPacket {
  timeMs: number;
  port: string;
  direction: 'in' | 'out';
  lengthBytes: number;
  summary: string;
}

/** The last line of a capture in the format `json`. */
export interface CaptureEnd {
  end: true;
  packets: number;
  /** Packets that matched and were lost because the client did not read fast enough. */
  dropped: number;
}

/** Every method: parameters and result. */
export interface Api {
  status: { params: Record<never, never>; result: Status };
  /** With `keep`, flows in the kernel and what they need stay for the next daemon. */
  shutdown: { params: { keep?: boolean }; result: { pid: number } };
  'config.apply': { params: { file: string; text: string }; result: ApplyResult };
  'config.diff': { params: { file: string; text: string }; result: ApplyResult };
  'config.show': { params: Record<never, never>; result: Record<string, unknown> };
  'port.list': { params: Record<never, never>; result: PortInfo[] };
  'port.show': { params: { name: string }; result: PortInfo & { dropReasons: DropCount[]; aclCounts: AclCount[] } };
  'port.add': { params: { name: string; port: Record<string, unknown> }; result: PortInfo };
  'port.del': { params: { name: string }; result: null };
  /** Sections of the port to replace; null removes one. */
  'port.set': { params: { name: string; changes: Record<string, unknown> }; result: PortInfo };
  'extension.list': { params: Record<never, never>; result: ExtensionInfo[] };
  'extension.add': {
    params: { name: string; module?: string; config?: Record<string, unknown>; position?: number };
    result: ExtensionInfo[];
  };
  'extension.del': { params: { name: string }; result: ExtensionInfo[] };
  'extension.show': { params: { name: string }; result: ExtensionInfo & { status: unknown } };
  /** A command of the extension's own. */
  'extension.command': { params: { name: string; command: string; args?: unknown }; result: unknown };
  'extension.configure': { params: { name: string; config: Record<string, unknown> }; result: ExtensionInfo[] };
  'extension.enable': { params: { name: string }; result: ExtensionInfo[] };
  'extension.disable': { params: { name: string }; result: ExtensionInfo[] };
  /** Positions count from 1. */
  'extension.move': { params: { name: string; position: number }; result: ExtensionInfo[] };
  /** Let Open vSwitch forward, in the place of learning. The socket is where its programs connect. @returns its status */
  'ovs.enable': { params: { socket?: string }; result: unknown };
  'fdb.show': { params: { port?: string; vlan?: number; mac?: string }; result: FdbEntry[] };
  'fdb.flush': { params: { port?: string; vlan?: number; mac?: string }; result: { flushed: number } };
  'fdb.add': { params: { mac: string; vlan: number; port: string }; result: null };
  'fdb.del': { params: { mac: string; vlan: number }; result: null };
  'offload.show': { params: Record<never, never>; result: OffloadInfo };
  /** Flows of tables that are offloaded, at most `limit`: those first that are not in the kernel. */
  'offload.flows': { params: { limit?: number }; result: OffloadFlow[] };
  /** The program of a port with comments, or the log of its verification. */
  'offload.dump': { params: { port: string; verifier?: boolean }; result: { text: string } };
  /** At most `limit` connections, from `from` on; 1 is the first. A page may be empty and not the last. */
  'connections.list': {
    params: { filter?: ConnectionFilterParams; from?: number; limit?: number };
    result: ConnectionPage;
  };
  /** End connections that a filter picks, or all, from `from` on. To be called again until `next` is 0. */
  'connections.flush': {
    params: { filter?: ConnectionFilterParams; all?: true; from?: number };
    result: ConnectionsEnded;
  };
  'connections.stats': { params: { zones?: number }; result: ConnectionStatistics };
  'connections.limits': { params: Record<never, never>; result: ConnectionLimits };
  /** Without a zone: the limit of all zones that have none of their own. Without a limit it is taken back; 0 is none, whatever the default. */
  'connections.setLimit': { params: { zone?: number; limit?: number }; result: ConnectionLimits };
  /** What has happened since `after`; the first call, without, begins to listen. Who does not call for 10 seconds is not listening any more. */
  'connections.changes': { params: { filter?: ConnectionFilterParams; after?: number }; result: ConnectionChanges };
  drops: { params: { port?: string }; result: DropCount[] };
  trace: { params: { port: string; frame: string }; result: TraceResult };
  /** Send a frame into the switch as if it had come in through the port. */
  inject: { params: { port: string; frame: string }; result: null };
  'events.recent': { params: { limit?: number }; result: DaemonEvent[] };
  /** Recent events; those after them arrive as `event` notifications on this connection. */
  'events.subscribe': { params: { limit?: number }; result: DaemonEvent[] };
  /** After the reply the connection carries the capture instead of messages, until either side ends it. */
  capture: {
    params: { ports?: string[]; format: CaptureFormat; snapLengthBytes?: number; count?: number; filter?: string };
    result: { format: CaptureFormat };
  };
}

export type MethodName = keyof Api;
