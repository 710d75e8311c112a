/** net/: packet memory, the adapter contract, packet formats, checksums, capture files. The only door of this room. */
export {
  type Adapter,
  type AdapterCounters,
  newCounters,
  Offload,
  Refusal,
  type RefusalListener,
  TagAction,
} from './adapter.ts';
export { type FaultCounters, FaultInjector, type FaultRates } from './adapters/fault-injector.ts';
export { GeneratorAdapter, type GeneratorSettings } from './adapters/generator.ts';
export {
  type FrameMetadata,
  MemoryAdapter,
  type MemoryAdapterSettings,
  Sink,
  type TransmittedFrame,
} from './adapters/memory.ts';
export { PcapAdapter, type PcapAdapterSettings } from './adapters/pcap.ts';
export { type AdapterSettings, macAddressFromName } from './adapters/settings.ts';
export { type FrameObserver, TracerAdapter } from './adapters/tracer.ts';
export { BATCH_SIZE, Batch } from './batch.ts';
export { CaptureError } from './capture/error.ts';
export {
  type ByteSink,
  type ByteSource,
  chunksOf,
  NOTHING_YET,
  openFileSink,
  openFileSource,
} from './capture/file.ts';
export type { ChunkSink } from './capture/output.ts';
export { type PacketToWrite, PcapWriter } from './capture/pcap-writer.ts';
export {
  type AnnotatedPacket,
  type InterfaceToWrite,
  PcapngWriter,
  type SectionToWrite,
  type StatisticsToWrite,
} from './capture/pcapng-writer.ts';
export { CaptureReader, readCapture } from './capture/reader.ts';
export {
  type CaptureInterface,
  type CapturePacket,
  type CaptureRecord,
  type CaptureSection,
  type CaptureStatistics,
  type CaptureTime,
  Direction,
  LinkType,
  MICROSECONDS,
  NANOSECONDS,
  type TimestampResolution,
} from './capture/types.ts';
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
export { composeFrame, type HeaderLayer, header } from './compose.ts';
export { copyBytes, copyPacket } from './copy.ts';
export { crc32c, sctpChecksum } from './crc32c.ts';
export { describe, type Layer, layerText } from './describe.ts';
export type { LayerValue } from './describe-fields.ts';
export { Fragment, HeaderOffsets, MAXIMUM_TAGS, Malformed, malformedName } from './dissect.ts';
export {
  type FollowedPath,
  type HostPath,
  type HostTables,
  type HostTablesService,
  hostTablesOf,
  type LocalAddress,
  type LocalAddresses,
  PATH_STATE_TEXTS,
  type PathFollower,
  PathQuery,
  PathState,
  type PathTaker,
} from './host-tables.ts';
export { isLinkLocalControl } from './link-local.ts';
export { FilterExpression } from './match/expression.ts';
export { FilterExpressionError } from './match/expression-parser.ts';
export {
  Field,
  Need,
  NetworkShape,
  networkOf,
  PacketFields,
  SHAPE_COUNT,
  shapeOf,
  shapesOver,
  shapesWith,
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
export { exceedsMtu, MTU_ALLOWANCE_BYTES } from './mtu.ts';
export { Checksum, Gso, Packet, type PacketOwner } from './packet.ts';
export { ClonePool, PacketPool, type PacketSource } from './pool.ts';
export {
  type InterfaceIndex,
  isInterfaceIndex,
  type KeyPort,
  type KeyPortOf,
  type PortId,
  toInterfaceIndex,
  toKeyPort,
  toPortId,
} from './port-numbers.ts';
export { Region } from './region.ts';
export { requiredOffloads, segment } from './segment.ts';
export { completeChecksum } from './segment-checksum.ts';
export { fragmentPacket } from './segment-fragment.ts';
export { SegmentResult, segmentResultName } from './segment-result.ts';
export { applyTagAction, outerTag, outerVlanId, TagResult } from './vlan.ts';
export {
  formatIpv4,
  formatIpv6,
  formatMac,
  macBytes,
  macHighAt,
  macLowAt,
  parseIpv4Address,
  parseIpv4Into,
  parseIpv6Address,
  parseIpv6Into,
  parseMac,
  parseMacInto,
} from './wire/address.ts';
export { Arp, ArpOperation, type ArpRecord, ArpView } from './wire/arp.ts';
export { WireError } from './wire/error.ts';
export { Ethernet, type EthernetRecord, EthernetView } from './wire/ethernet.ts';
export { GENEVE_PORT, Geneve, type GeneveOption, type GeneveRecord, GeneveView } from './wire/geneve.ts';
export { Gre, type GreRecord, GreView } from './wire/gre.ts';
export { Icmpv4, type Icmpv4Record, Icmpv4Type, Icmpv4View } from './wire/icmpv4.ts';
export { Icmpv6, type Icmpv6Record, Icmpv6Type, Icmpv6View } from './wire/icmpv6.ts';
export { Ipv4, type Ipv4Record, Ipv4View } from './wire/ipv4.ts';
export { Ipv6, type Ipv6Record, Ipv6View } from './wire/ipv6.ts';
export {
  type Ipv6ExtensionRecord,
  Ipv6ExtensionView,
  ipv6ExtensionCodec,
  ipv6ExtensionType,
  isIpv6Extension,
} from './wire/ipv6-extension.ts';
export type { Ipv6Option } from './wire/ipv6-options.ts';
export { Mpls, type MplsRecord, MplsView } from './wire/mpls.ts';
export type { NdOption } from './wire/nd-options.ts';
export {
  ETHERNET_BYTES,
  ETHERTYPE_MINIMUM,
  EtherType,
  IpProtocol,
  MAC_ADDRESSES_BYTES,
  TAG_BYTES,
} from './wire/numbers.ts';
export type { RawOption } from './wire/options.ts';
export { Sctp, type SctpRecord, SctpView } from './wire/sctp.ts';
export { type SctpChunk, SctpChunkType } from './wire/sctp-chunks.ts';
export { Tcp, TcpFlag, type TcpRecord, TcpView } from './wire/tcp.ts';
export type { TcpOption } from './wire/tcp-options.ts';
export { Udp, type UdpRecord, UdpView } from './wire/udp.ts';
export { type Codec, encode, type Flaw, View } from './wire/view.ts';
export { VlanTag, type VlanTagRecord, VlanTagView } from './wire/vlan-tag.ts';
export { VXLAN_PORT, Vxlan, type VxlanRecord, VxlanView } from './wire/vxlan.ts';
