/** bpf/: eBPF from TypeScript with no compiler. The only door of this room; README.md says in which order to read it. */
export type { Operand } from './asm/arithmetic.ts';
export { Assembler } from './asm/assembler.ts';
export { type Argument, type FunctionRef, ProgramBuilder } from './asm/builder.ts';
export type { Body } from './asm/control-flow.ts';
export { disassemble, print as printInstruction } from './asm/disassemble.ts';
export { decode, encode } from './asm/encode.ts';
export { Instruction } from './asm/instruction.ts';
export {
  type Address,
  type AtomicOperation,
  at,
  type Condition,
  Label,
  type MapReference,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  R9,
  R10,
  Register,
  type StoreWidth,
  type Width,
} from './asm/operands.ts';
export type { SourceLine } from './asm/site.ts';
export { Slot } from './asm/stack.ts';
export { kernelFunctionId, kernelVariableId } from './btf/kernel.ts';
export * from './errors.ts';
export {
  type FeatureLine,
  type FeatureName,
  featureReport,
  haveFeature,
  requireFeature,
  requireMapType,
  requireProgramType,
} from './feature/probe.ts';
export { haveHelper, haveMapType, haveProgramType } from './feature/raw.ts';
export { adoptClsact, attachClsact, type ClsactAttachment, ClsactFilter } from './link/clsact.ts';
export { Link, type LinkInfo } from './link/link.ts';
export { linkIds, linkInfoById, mapIds, programIds, programInfoById } from './link/objects.ts';
export {
  type AttachedFilter,
  type AttachedProgram,
  type AttachedXdp,
  type Direction,
  type NetdevPrograms,
  queryClsact,
  queryNetdev,
  queryTcx,
  queryXdp,
  type TcxList,
} from './link/query.ts';
export { attachTc, type TcAttachment } from './link/tc.ts';
export { type Anchor, attachTcx, type TcxAttachment, type TcxPosition } from './link/tcx.ts';
export { attachXdp, type XdpAttachment, type XdpMode } from './link/xdp.ts';
export { ArrayMap, type ArrayOptions, MappedValues } from './map/array.ts';
export { MapHandle, type MapInfo, type MapOptions, type MapShape } from './map/handle.ts';
export { HashMap, type HashOptions, LruHashMap, PerCpuHashMap } from './map/hash.ts';
export {
  array,
  bytes,
  count64,
  type Layout,
  s8,
  s16,
  s32,
  s64,
  u8,
  u16,
  u16be,
  u32,
  u32be,
  u64,
  type ValueOf,
} from './map/layout.ts';
export { LpmTrieMap, type LpmTrieOptions, type Prefix, prefixKey } from './map/lpm-trie.ts';
export { PerCpuArrayMap, type PerCpuArrayOptions } from './map/percpu.ts';
export {
  type Device,
  DeviceHashMap,
  DeviceMap,
  MapArray,
  type MapArrayOptions,
  ProgramArrayMap,
  XskMap,
} from './map/references.ts';
export { PerfEventArrayMap, RingBufferMap, type RingBufferOptions } from './map/ring.ts';
export { type StructLayout, type StructValue, struct } from './map/struct.ts';
export { Table } from './map/table.ts';
export { type Code, loadProgram, type ProgramSpec } from './program/load.ts';
export { unpin } from './program/pin.ts';
export { Program, type ProgramInfo } from './program/program.ts';
export type { LiveFrames, TestRun, TestRunInput } from './program/test-run.ts';
export { emitTickTime, type TickClock, tickClock } from './program/tick-clock.ts';
export { VerifierError } from './program/verifier.ts';
export { EventRing, type EventRingOptions } from './reader/event-ring.ts';
export { type PerfBufferOptions, PerfBufferReader, type SampleHandler } from './reader/perf-buffer.ts';
export { type RecordHandler, RingBufferReader } from './reader/ring-buffer.ts';
export { possibleCpus } from './sys/machine.ts';
export { undoTransmission, type XdpTransmission, xdpTransmission } from './tools/delivery.ts';
export type { FrameOptions, Variation, VlanTag } from './tools/frame.ts';
export { type GenerateOptions, type GenerateResult, generate } from './tools/generate.ts';
export { newsOfPeers } from './tools/peer.ts';
export {
  type FlowCounts,
  type ReceiveOptions,
  type ReceiveResult,
  Receiver,
  type ReceiverOptions,
  receive,
} from './tools/receive.ts';
export { type XdpReception, xdpReception } from './tools/reception.ts';
export { explainXdpRefusal, isRefusal } from './tools/xdp-refusal.ts';
export { LOAD_FLAG, MAP_FLAG, TEST_FLAG } from './uapi/commands.ts';
export { HELPERS, type HelperName } from './uapi/helpers.ts';
export { type AttachType, type MapType, type ProgramType, SK_BUFF, TC, XDP, XDP_MD } from './uapi/kinds.ts';
