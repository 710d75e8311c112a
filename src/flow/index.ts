/** flow/: flow keys and masks, the megaflow table, action lists and the engine that runs them. The only door of this room. */
/** Bits of ct_state in a key's {@link Word.CT}. */
export { ConnectionState } from '../connections/index.ts';
export { ActionBuilder } from './actions/builder.ts';
export { Ct, CtFlag, type CtOptions, NatFlag } from './actions/ct/words.ts';
export type { ActionDescription, ListBounds } from './actions/description.ts';
export { explicitDrop } from './actions/drop/drop.ts';
export {
  ACTIONS_MAXIMUM_DEPTH,
  ACTIONS_MAXIMUM_WORDS,
  Action,
  type ActionName,
  type ActionType,
  actionLength,
  actionType,
  unpackBytes,
} from './actions/encoding.ts';
export { HashAlgorithm } from './actions/hash/hash.ts';
export { MPLS_L3_TUNNEL } from './actions/mpls/mpls.ts';
export type { ActionReader, ActionWriter } from './actions/netlink.ts';
export { NSH_PART_BYTES, NshPart, nshMetadataType } from './actions/nsh/netlink.ts';
export { isSameOutcome, type Outcome, outcomeOf } from './actions/outcome.ts';
export { type SetWord, setLayout } from './actions/set/attributes.ts';
export { ACTIONS, actionName, describe, eachAction, everyAction } from './actions/table.ts';
export { Userspace, UserspaceFlag, type UserspaceOptions } from './actions/userspace/userspace.ts';
export { ActionError, type ActionFlaw, type ValidationOptions, validateActions } from './actions/validate.ts';
export { Datapath, type DatapathOptions, type DatapathStatistics } from './datapath.ts';
export {
  Drop,
  DropCounters,
  dropName,
  dropText,
  MAXIMUM_DEFERRED,
  MAXIMUM_RECIRCULATIONS,
  MAXIMUM_REENTRY,
} from './engine/drops.ts';
export { ActionEngine, type EngineOptions, extractionDrop } from './engine/engine.ts';
export type { FlowHooks } from './engine/hooks.ts';
export { Extraction, extract } from './key/extract.ts';
export { MAXIMUM_PADDING_BYTES } from './key/extract-transport.ts';
export {
  FIELD_GROUPS,
  type FieldFormat,
  type FieldGroup,
  type FlowField,
  groupOf,
  hasAttribute,
  KEY_BYTES,
  KeyAttribute,
  keyByte,
  readField,
  setKeyByte,
  TUNNEL_FIELDS,
  TUNNEL_FLAGS_FIELD,
  writeField,
} from './key/fields.ts';
export { FlowKey, inPortOf } from './key/key.ts';
export {
  ExtensionHeader,
  FlowEtherType,
  isMpls,
  KEY_WORDS,
  L3_MARKER,
  MPLS_DEPTH,
  Sound,
  TAG_PRESENT,
  TUNNEL_BASE_WORDS,
  TUNNEL_OPTIONS_MAXIMUM,
  TUNNEL_WORDS,
  TunnelFlag,
  TunnelOptions,
  tunnelOptionsBytes,
  Word,
} from './key/layout.ts';
export {
  MAXIMUM_RESUME_BYTES,
  RESUME_BYTES,
  RESUME_VERSION,
  ResumeByte,
  type ResumeBytes,
  ResumePosition,
  readResumeRecord,
  resumeByteOf,
  resumedRecirculation,
  resumeLength,
  resumeTicket,
  writeResumeRecord,
} from './resume/record.ts';
export {
  type FlowDescription,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  flowRegistryOf,
  type RecalledFlow,
} from './source.ts';
export { FlowError, type FlowObserver, type FlowPut, type FlowTableOptions, PutMode } from './table/contract.ts';
export { HashSecret, hashWords } from './table/hash.ts';
export { JoinedFlows, type JoinedFlowsOptions } from './table/joined.ts';
export type { FlowMask } from './table/mask.ts';
export type { OfferedFlows } from './table/offered.ts';
export { RecentFlows } from './table/recent-flows.ts';
export { FlowTable } from './table/table.ts';
export { UFID_MAXIMUM_BYTES } from './table/ufid-index.ts';
export { formatActions, parseActions } from './text/actions.ts';
export { formatFlow, formatUfid, parseUfid } from './text/flow.ts';
export { formatFlowKey, parseFlowKey } from './text/flow-key.ts';
export type { KeyAndMask } from './text/groups.ts';
export { FlowTextError } from './text/scanner.ts';
