/**
 * What the control thread and the datapath thread say to each other. Calls go down with a number and come back as replies; the
 * datapath also speaks on its own: logs, events, captured bytes. Plain data only, as it is cloned on its way.
 */
import type {
  CaptureFormat,
  DaemonEvent,
  DropCount,
  ExtensionInfo,
  FdbEntry,
  PortCounters,
  PortInfo,
  TraceResult,
} from '../api.ts';
import type { Operation } from '../config/diff.ts';
import type { FailureKind } from '../rpc/failure.ts';

/** A filter of the forwarding database; what is left out matches everything. */
export interface FdbFilter {
  port?: string | undefined;
  vlan?: number | undefined;
  mac?: string | undefined;
}

export interface CaptureOptions {
  /** Chosen by the control thread; names the capture from then on. */
  id: number;
  /** Names of ports; empty for all, those included that are added later. */
  ports: readonly string[];
  format: CaptureFormat;
  snapLengthBytes: number;
  /** End after this many packets; 0 is never. */
  count: number;
  filter: string;
}

export interface DatapathSummary {
  ports: { total: number; up: number };
  counters: PortCounters;
  drops: number;
  learnedAddresses: number;
}

/** Calls to the datapath thread. */
export interface DatapathCalls {
  /** Carry out one operation of a configuration change. */
  operate: { params: Operation; result: null };
  summary: { params: null; result: DatapathSummary };
  ports: { params: null; result: PortInfo[] };
  extensions: { params: null; result: ExtensionInfo[] };
  'extension-status': { params: { name: string }; result: unknown };
  'extension-command': { params: { name: string; command: string; args: unknown }; result: unknown };
  drops: { params: { port: string | null }; result: DropCount[] };
  trace: { params: { port: string; frame: Uint8Array }; result: TraceResult };
  inject: { params: { port: string; frame: Uint8Array }; result: null };
  'fdb-show': { params: FdbFilter; result: FdbEntry[] };
  'fdb-flush': { params: FdbFilter; result: { flushed: number } };
  'capture-start': { params: CaptureOptions; result: null };
  /** The client has taken this much; more may be sent. */
  'capture-credit': { params: { id: number; bytes: number }; result: null };
  'capture-stop': { params: { id: number }; result: null };
  /** Close everything and leave. */
  stop: { params: null; result: null };
}

export type DatapathCall = keyof DatapathCalls;

/** A call under way. */
export interface CallMessage {
  id: number;
  call: DatapathCall;
  params: unknown;
}

/** What the datapath thread sends up. */
export type UpMessage =
  | { type: 'ready'; wakeDescriptor: number }
  | { type: 'reply'; id: number; result: unknown }
  | { type: 'failure'; id: number; kind: FailureKind; message: string; hint: string | null }
  | { type: 'event'; event: DaemonEvent }
  | { type: 'log'; level: 'debug' | 'info' | 'warn' | 'error'; message: string; fields: Record<string, unknown> }
  | { type: 'capture'; id: number; bytes: Uint8Array }
  /** The capture has ended on its own or as asked; nothing follows. */
  | { type: 'capture-end'; id: number };
