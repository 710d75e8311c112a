/** extensions/capture: the capturing extension. The only door of this room. */
export { type CAPTURE_COMMANDS, type CaptureStatus, captureExtension } from './extension.ts';
export { CaptureHub } from './hub.ts';
export { type CapturedFrame, CaptureFlag, CaptureRing } from './ring.ts';
export type { CaptureSession } from './session.ts';
