/**
 * What the control thread and the datapath thread say to each other. Calls go down with a number and come back as replies; the
 * datapath also speaks on its own: logs and events. Plain data only, as it is cloned on its way.
 */
import type {
  AclCount,
  ConnectionChanges,
  ConnectionFilterParams,
  ConnectionLimits,
  ConnectionPage,
  ConnectionStatistics,
  ConnectionsEnded,
  DaemonEvent,
  DropCount,
  ExtensionInfo,
  FullAddressTable,
  OffloadFlow,
  OffloadInfo,
  PortCounters,
  PortInfo,
  TraceResult,
} from '../api.ts';
import type { Operation } from '../config/diff.ts';
import type { Port } from '../config/model.ts';
import type { FailureKind } from '../rpc/failure.ts';

export interface CaptureRequest {
  /** Names of ports; empty for all, those included that are added later. */
  ports: readonly string[];
  /** Null keeps whole frames. */
  snapLengthBytes: number | null;
  /** A filter expression; empty matches everything. */
  filter: string;
}

/** A capture under way. Its records are in memory that both threads share (extensions/capture, CaptureRing). */
export interface OpenCapture {
  id: number;
  buffer: SharedArrayBuffer;
}

export interface ConnectionPageRequest {
  filter: ConnectionFilterParams;
  from: number;
  limit: number;
}

export interface DatapathSummary {
  ports: { total: number; up: number };
  overloaded: string[];
  counters: PortCounters;
  drops: number;
  learnedAddresses: number;
  fullAddressTable: FullAddressTable | null;
  connections: { connections: number; maximum: number } | null;
}

/** Calls to the datapath thread. */
export interface DatapathCalls {
  /** Carry out one operation of a configuration change. */
  operate: { params: Operation; result: null };
  /** What ports that extensions will add are to be set to, by name. */
  'keep-settings': { params: ReadonlyMap<string, Port>; result: null };
  summary: { params: null; result: DatapathSummary };
  ports: { params: null; result: PortInfo[] };
  extensions: { params: null; result: ExtensionInfo[] };
  'extension-status': { params: { name: string }; result: unknown };
  'extension-command': {
    params: { name: string; command: string; args: unknown };
    /** The answer, and whether the extension's configuration is another one by it. */
    result: { answer: unknown; isConfigured: boolean };
  };
  'extension-config': { params: { name: string }; result: Record<string, unknown> };
  drops: { params: { port: string | null }; result: DropCount[] };
  'acl-counts': { params: { port: string }; result: AclCount[] };
  trace: { params: { port: string; frame: Uint8Array }; result: TraceResult };
  inject: { params: { port: string; frame: Uint8Array }; result: null };
  'offload-show': { params: null; result: OffloadInfo };
  'offload-flows': { params: { limit: number }; result: OffloadFlow[] };
  'offload-dump': { params: { port: string; verifier: boolean }; result: { text: string } };
  /** Each of these looks at a bounded number of connections: `next` says where to go on. */
  'connections-page': { params: ConnectionPageRequest; result: ConnectionPage };
  'connections-flush': { params: { filter: ConnectionFilterParams; from: number }; result: ConnectionsEnded };
  'connections-stats': { params: { zones: number }; result: ConnectionStatistics };
  'connections-limits': { params: null; result: ConnectionLimits };
  'connections-limit': { params: { zone: number | null; limit: number | null }; result: null };
  'connections-changes': {
    params: { filter: ConnectionFilterParams; after: number | null };
    result: ConnectionChanges;
  };
  'capture-open': { params: CaptureRequest; result: OpenCapture };
  /** Afterwards nothing more is recorded; what is in the ring can still be read. */
  'capture-close': { params: { id: number }; result: { captured: number; lost: number } };
  /** The first configuration is in force. */
  started: { params: null; result: null };
  /**
   * Give everything back; with `keep`, all but what carries flows in the kernel. The result: what becomes of flows that a former daemon had
   * left there, when this one's start has failed.
   */
  stop: { params: { keep: boolean }; result: string | null };
}

export type DatapathCall = keyof DatapathCalls;

/** A call under way. */
export interface CallMessage {
  id: number;
  call: DatapathCall;
  params: unknown;
}

/** A port that an extension has added, for the journal. */
export interface UserPort {
  readonly name: string;
  readonly kind: string;
  readonly device: string;
  readonly isThere: boolean;
}

/** What the datapath thread sends up. */
export type UpMessage =
  | { type: 'ready'; wakeDescriptor: number }
  /** An extension has a number in the pulse (pulse.ts). */
  | { type: 'entry'; number: number; name: string }
  /** A grace period of the kernel is to be waited for (grace-periods.ts). */
  | { type: 'grace' }
  | { type: 'reply'; id: number; result: unknown }
  | { type: 'failure'; id: number; kind: FailureKind; message: string; hint: string | null }
  | { type: 'event'; event: DaemonEvent }
  /** A port that an extension has added has come or gone. */
  | { type: 'user-port'; port: UserPort }
  | { type: 'log'; level: 'debug' | 'info' | 'warn' | 'error'; message: string; fields: Record<string, unknown> };
