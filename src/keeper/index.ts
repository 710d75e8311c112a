/** keeper/: keeps flows of a switch in the kernel, from process to process. The only door of this room; README.md says in which order to read it. */
export { KeeperError, type KeptPort, type PortWishes } from './contract.ts';
export type { CopyTakers } from './copies/copies.ts';
export { OffloadKeeper } from './keeper.ts';
export { KeptArrays } from './left/kept-arrays.ts';
export { ownNamespace } from './left/links-manifest.ts';
export {
  findPins,
  namespaceOfPins,
  puntNameOf,
  puntPathOf,
  type RemovedPins,
  remainingPins,
  removePins,
} from './left/pin-place.ts';
export { Condition } from './ports/condition.ts';
export type { OffloadFlow, OffloadInfo, OffloadPortInfo, PortSummary } from './shown.ts';
