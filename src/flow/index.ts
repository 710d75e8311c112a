/** flow/: flow keys and masks, the megaflow table, action lists and the engine that runs them. The only door of this room. */
export { ActionBuilder, type CtOptions, type UserspaceOptions } from './actions/builder.ts';
export {
  ACTIONS_MAXIMUM_DEPTH,
  ACTIONS_MAXIMUM_WORDS,
  Action,
  actionLength,
  actionName,
  actionType,
  Ct,
  CtFlag,
  HashAlgorithm,
  MPLS_L3_TUNNEL,
  NatFlag,
  type SetWord,
  setLayout,
  TUNNEL_BASE_WORDS,
  tunnelOptionsBytes,
  Userspace,
  UserspaceFlag,
  unpackBytes,
} from './actions/encoding.ts';
export { isSameOutcome, type Outcome, outcomeOf } from './actions/outcome.ts';
export { ActionError, type ActionFlaw, type ValidationOptions, validateActions } from './actions/validate.ts';
export { Datapath, type DatapathOptions, type DatapathStatistics } from './datapath.ts';
export {
  Drop,
  DropCounters,
  dropName,
  MAXIMUM_DEFERRED,
  MAXIMUM_RECIRCULATIONS,
  MAXIMUM_REENTRY,
} from './engine/drops.ts';
export { ActionEngine, type EngineOptions, extractionDrop } from './engine/engine.ts';
export { CtVerdict, type FlowHooks, type PacketContext } from './engine/hooks.ts';
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
export { FlowKey } from './key/key.ts';
export {
  CtState,
  ExtensionHeader,
  FlowEtherType,
  isMpls,
  KEY_WORDS,
  L3_MARKER,
  MPLS_DEPTH,
  Sound,
  TAG_PRESENT,
  TUNNEL_OPTIONS_MAXIMUM,
  TUNNEL_WORDS,
  TunnelFlag,
  TunnelOptions,
  Word,
} from './key/layout.ts';
export {
  type FlowDescription,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  flowRegistryOf,
  type RecalledFlow,
} from './source.ts';
export { FlowError, type FlowObserver, type FlowPut, type FlowTableOptions, PutMode } from './table/contract.ts';
export type { FlowMask } from './table/mask.ts';
export { FlowTable } from './table/table.ts';
export { formatFlow, formatUfid, parseUfid } from './text/flow.ts';
export { formatFlowKey, parseFlowKey } from './text/flow-key.ts';
export { formatActions } from './text/format-actions.ts';
export type { KeyAndMask } from './text/groups.ts';
export { parseActions } from './text/parse-actions.ts';
export { FlowTextError } from './text/scanner.ts';
