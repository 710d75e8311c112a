/** struct rtnl_link_stats64: the counters of an interface, as the kernel numbers them. */
import { readCounter64, writeCounter64 } from '../bytes.ts';
import { struct } from '../fields.ts';
import { checkUnsigned } from '../writer.ts';

/** In the order of the structure; one u64 each. Kernels append more, which are not read. */
const names = [
  'receivedPackets',
  'transmittedPackets',
  'receivedBytes',
  'transmittedBytes',
  'receiveErrors',
  'transmitErrors',
  'receiveDropped',
  'transmitDropped',
  'multicast',
  'collisions',
  'receiveLengthErrors',
  'receiveOverErrors',
  'receiveCrcErrors',
  'receiveFrameErrors',
  'receiveFifoErrors',
  'receiveMissedErrors',
  'transmitAbortedErrors',
  'transmitCarrierErrors',
  'transmitFifoErrors',
  'transmitHeartbeatErrors',
  'transmitWindowErrors',
  'receiveCompressed',
  'transmitCompressed',
] as const;

/** Counters of an interface. Numbers are exact to 2^53 - 1. */
export type LinkStatistics = Record<(typeof names)[number], number>;

/** The attribute IFLA_STATS64. */
export const statistics = struct<LinkStatistics>(
  'rtnl_link_stats64',
  names.length * 8,
  (bytes, at) => {
    const values: Partial<LinkStatistics> = {};
    for (let i = 0; i < names.length; i += 1) values[names[i]] = readCounter64(bytes, at + i * 8);
    return values as LinkStatistics;
  },
  (bytes, values) => {
    for (let i = 0; i < names.length; i += 1) {
      writeCounter64(bytes, i * 8, checkUnsigned(names[i], values[names[i]], Number.MAX_SAFE_INTEGER));
    }
  },
);
