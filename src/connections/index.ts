/** connections/: connection tracking and address translation over mapped memory. The only door of this room. */
export {
  ConnectionAction,
  type ConnectionRequest,
  ConnectionState,
  REFUSAL_NAMES,
  Refusal,
  Tracked,
} from './action.ts';
export type { AdoptReport } from './adopt.ts';
export {
  type ConnectionStore,
  Connections,
  type ConnectionsSettings,
  connectionsOf,
  DEFAULT_CONNECTIONS,
} from './connections.ts';
export { ConnectionCursor } from './cursor.ts';
export {
  type ConnectionData,
  describeConnection,
  describeRecord,
  stateText,
  type TupleData,
} from './describe.ts';
export { ConnectionEvent, type EventBatch, type EventListener } from './events.ts';
export { type ConnectionFilter, connectionFilter, type NatKind, type RecordFilter } from './filter.ts';
export { Reassembler, type ReassemblerSettings } from './fragments/reassembler.ts';
export { FRAGMENT_RESULT_NAMES, FragmentResult } from './fragments/result.ts';
export { firstBucket, hashTuple, secondBucket } from './hash.ts';
export {
  BUCKET_WORDS,
  bucketsFor,
  type ConnectionMemory,
  ControlWord,
  Direction,
  ENTRY_MASK,
  Kind,
  LAYOUT_MAGIC,
  LAYOUT_VERSION,
  MAXIMUM_CAPACITY,
  MAXIMUM_MAPPED_CONNECTIONS,
  memorySizes,
  PARENT_ID_SHIFT,
  PARENT_RECORD,
  POLICY_NAME_BYTES,
  POLICY_WORDS,
  plainMemory,
  RECORD_WORDS,
  RecordWord,
  Settings,
  STATE_MASK,
  Status,
  TAG_SHIFT,
  TIMEOUT_SHIFT,
  TUPLE_WORDS,
  tupleWord,
} from './layout.ts';
export type { NatTarget } from './nat.ts';
export { Untracked } from './packet-tuple.ts';
export { ConnectionPreview, type Previewed } from './preview.ts';
export { type HelperName, helperName, helperNamed } from './related/known-helpers.ts';
export { SCTP_STATE_NAMES, SctpState } from './sctp.ts';
export { STREAM_AT } from './stateless.ts';
export { ConnectionTable, LayoutError, Removal, type TableSettings } from './table.ts';
export { MAXIMUM_REPEATS } from './tcp.ts';
export { TCP_STATE_NAMES, TcpKind, TcpState } from './tcp-state.ts';
export { LastPart, MOST_REPEATS, OLDEST_ACK, OptionShift, Side, SideFlag, TcpWord } from './tcp-window.ts';
export {
  repliedTimeOut,
  type TimedProtocol,
  TimeOut,
  type TimeOutPolicies,
  type TimeOutValues,
  timeOutNames,
  unrepliedTimeOut,
} from './time-outs.ts';
export { Tracker, type TrackerSettings } from './tracker.ts';
export { hasPorts, isIcmp, kindOf, Tuple, TupleWord } from './tuple.ts';
