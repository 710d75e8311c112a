/** offload/: flows of flow/ in the kernel, as eBPF at tc and XDP. The only door of this room. */
export {
  type Attachment,
  type AttachRequest,
  type AttachResult,
  attach,
  type ForeignProgram,
  foreignPrograms,
  type Hook,
} from './attach/hook.ts';
export type { Json } from './attach/manifest.ts';
export { checkPinFolder, leftData, OffloadState, PinningError, removeOffloadState } from './attach/state.ts';
export {
  type Ability,
  decideOffload,
  type OffloadDecision,
  type OffloadSetting,
  type OffloadSupport,
  offloadSupport,
} from './attach/support.ts';
export { undoXdpTarget, type XdpTarget, xdpTarget } from './attach/xdp-target.ts';
export type { ConnectionReferences } from './connections/maps.ts';
export { CopyChannel, type FrameCopy } from './copies/channel.ts';
export type { CopyMaps } from './copies/layout.ts';
export { DownDoor } from './down/door.ts';
export type { DownEntry } from './down/entry.ts';
export { canGoDown, DOWN_HEADER_BYTES, MAXIMUM_DOWN_HEADER_BYTES, writeDownHeader } from './down/header.ts';
export { DownPolicy } from './down/policy.ts';
export { MAXIMUM_IFINDEX } from './layout/limits.ts';
export { type Description, type MapSet, OffloadMaps, tablesLayout } from './layout/maps.ts';
export { interfacesIn, liftShares, takeCount } from './layout/port-table.ts';
export { drop as emitDrop } from './program/end.ts';
export { Found } from './program/facts.ts';
export type { LoadedProgram, Refused } from './program/load.ts';
export { Fact, type Stage } from './program/stage.ts';
export { emitPunt } from './punt/punt.ts';
export { emitWithinShare, type ShareWords } from './punt/share.ts';
export type { Marks } from './table/endings.ts';
export { cpuParts, FlowOffload, type FlowOffloadOptions } from './table/flow-offload.ts';
export type { LeftFlow } from './table/left-flows.ts';
export type { OffloadPort } from './table/ports.ts';
export type { Installation } from './table/programs.ts';
export { type ShownOffload, showOffload } from './table/show.ts';
export type { WorkshopAside } from './workshop/aside.ts';
export { startWorkshop } from './workshop/start.ts';
export type { Workshop } from './workshop/workshop.ts';
