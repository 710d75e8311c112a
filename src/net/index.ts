/** net/: packet memory, the adapter contract, packet formats, checksums, capture files. The only door of this room. */
export { type Adapter, type AdapterCounters, newCounters, Offload, TagAction } from './adapter.ts';
export { type FaultCounters, FaultInjector, type FaultRates } from './adapters/fault-injector.ts';
export { GeneratorAdapter, type GeneratorSettings } from './adapters/generator.ts';
export {
  type FrameMetadata,
  MemoryAdapter,
  type MemoryAdapterSettings,
  Sink,
  type TransmittedFrame,
} from './adapters/memory.ts';
export { type AdapterSettings, macAddressFromName } from './adapters/settings.ts';
export { type FrameObserver, TracerAdapter } from './adapters/tracer.ts';
export { BATCH_SIZE, Batch } from './batch.ts';
export {
  finishSum,
  foldSum,
  internetChecksum,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
  sumBytes,
  updateChecksum16,
  updateChecksum32,
} from './checksum.ts';
export { copyBytes, copyPacket } from './copy.ts';
export { crc32c, sctpChecksum } from './crc32c.ts';
export { Fragment, HeaderOffsets, MAXIMUM_TAGS, Malformed, malformedName } from './dissect.ts';
export { FilterExpression, FilterExpressionError } from './match/expression.ts';
export {
  Field,
  Need,
  NetworkShape,
  networkOf,
  PacketFields,
  SHAPE_COUNT,
  shapeOf,
  TransportShape,
  transportOf,
} from './match/fields.ts';
export {
  ETHER_TYPE_NAMES,
  etherTypeNumber,
  type MaskedMac,
  PROTOCOL_NAMES,
  type Prefix,
  parseMaskedMac,
  parsePrefix,
  protocolNumber,
  unsignedNumber,
} from './match/names.ts';
export { Checksum, Gso, Packet, type PacketOwner } from './packet.ts';
export { ClonePool, PacketPool } from './pool.ts';
export { Region } from './region.ts';
export { requiredOffloads, segment } from './segment.ts';
export { completeChecksum } from './segment-checksum.ts';
export { SegmentResult, segmentResultName } from './segment-result.ts';
export { applyTagAction, outerTag, outerVlanId, TagResult } from './vlan.ts';
export {
  formatIpv4,
  formatIpv6,
  formatMac,
  parseIpv4Address,
  parseIpv4Into,
  parseIpv6Address,
  parseIpv6Into,
  parseMac,
  parseMacInto,
} from './wire/address.ts';
export { WireError } from './wire/error.ts';
export { Ethernet, type EthernetRecord, EthernetView } from './wire/ethernet.ts';
export { EtherType, IpProtocol } from './wire/numbers.ts';
export { type Codec, encode, View } from './wire/view.ts';
export { VlanTag, type VlanTagRecord, VlanTagView } from './wire/vlan-tag.ts';
