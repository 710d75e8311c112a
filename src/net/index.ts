/** net/: packet memory, the adapter contract, packet formats, checksums, capture files. The only door of this room. */
export { type Adapter, type AdapterCounters, newCounters, Offload, TagAction } from './adapter.ts';
export { BATCH_SIZE, Batch } from './batch.ts';
export { Checksum, Gso, Packet, type PacketOwner } from './packet.ts';
export { ClonePool, PacketPool } from './pool.ts';
export { Region } from './region.ts';
