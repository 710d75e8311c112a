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
export { OffloadState, PinningError, removeOffloadState } from './attach/state.ts';
export {
  decideOffload,
  type OffloadDecision,
  type OffloadSetting,
  type OffloadSupport,
  offloadSupport,
} from './attach/support.ts';
export { type XdpTarget, xdpTarget } from './attach/xdp-target.ts';
export { emitPunt } from './punt/punt.ts';
