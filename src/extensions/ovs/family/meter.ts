/** Family ovs_meter: what meters can do, and setting, reading and deleting them. meters.ts is what they do. */
import type { MessageWriter } from '../../../netlink/index.ts';
import { MeterAttribute as A, Family, MeterCommand } from '../abi.ts';
import { Attributes, beginNest, counters, eachNested, u32At } from '../attributes.ts';
import type { ObjectHeader } from '../device/reply.ts';
import { Errno, OvsError } from '../errors.ts';
import { bucketSize, METERS_MAXIMUM, type Meter, type MeterBand } from '../meters.ts';
import type { OvsDatapath } from '../ovs-datapath.ts';
import { datapathOf, type FamilyRequest, unsupported } from './request.ts';

export const METER_ATTRIBUTES = 9;
const BANDS_MAXIMUM = 1;

/** OVS_BAND_ATTR_*, and the one type of band there is. */
const Band = { TYPE: 1, RATE: 2, BURST: 3, STATS: 4 } as const;
const BAND_DROP = 1;

/** @throws OvsError */
export function handleMeter(request: FamilyRequest): void {
  const datapath = datapathOf(request);
  const { attributes, reply } = request;
  const header = headerOf(datapath, request.command);
  if (request.command === MeterCommand.FEATURES) {
    reply.object(header, writeFeatures);
    return;
  }
  const id = attributes.u32(A.ID);
  if (id === null) throw new OvsError(Errno.EINVAL, 'the meter id is missing');
  switch (request.command) {
    case MeterCommand.SET: {
      const before = datapath.meters.get(id);
      const meter = readMeter(request, id, datapath.nowMs);
      if (!datapath.meters.set(meter)) throw new OvsError(Errno.EFBIG, 'too many meters');
      reply.object(header, (writer) => write(writer, id, before?.keepsCounts === true ? before : undefined));
      break;
    }
    case MeterCommand.GET: {
      const meter = datapath.meters.get(id);
      if (meter === undefined) throw new OvsError(Errno.ENOENT, `no meter ${id}`);
      reply.object(header, (writer) => write(writer, id, meter));
      break;
    }
    case MeterCommand.DEL: {
      const meter = datapath.meters.remove(id);
      reply.object(header, (writer) => write(writer, id, meter));
      break;
    }
    default:
      unsupported(request);
  }
}

/** @throws OvsError EINVAL, ERANGE */
function readMeter(request: FamilyRequest, id: number, nowMs: number): Meter {
  const { attributes } = request;
  const bands: MeterBand[] = [];
  const nested = attributes.nest(A.BANDS);
  if (nested === null) throw new OvsError(Errno.EINVAL, 'the bands are missing');
  eachNested(nested, (_type, content) => {
    const band = new Attributes(content, 0, content.length, Band.STATS);
    const type = band.u32(Band.TYPE);
    const rate = band.u32(Band.RATE);
    const burst = band.u32(Band.BURST);
    if (type === null || rate === null || burst === null) throw new OvsError(Errno.EINVAL, 'a band is incomplete');
    if (rate === 0) throw new OvsError(Errno.EINVAL, 'a band without rate');
    bands.push({ rate, burst, packets: 0, bytes: 0, drops: type === BAND_DROP, tokens: bucketSize({ burst }) });
  });
  if (bands.length > BANDS_MAXIMUM) throw new OvsError(Errno.EINVAL, 'too many bands');
  const keepsCounts = !attributes.has(A.CLEAR);
  // A meter that is put in place of another may go on with its counts, which the program brings along.
  const stats = keepsCounts ? attributes.content(A.STATS, 16) : null;
  const isKbps = attributes.has(A.KBPS);
  const packets = stats === null ? 0 : countAt(stats, 0);
  const bytes = stats === null ? 0 : countAt(stats, 8);
  return { id, isKbps, bands, packets, bytes, usedMs: nowMs, keepsCounts };
}

/** A 64-bit counter. */
function countAt(bytes: Uint8Array, at: number): number {
  return u32At(bytes, at) + u32At(bytes, at + 4) * 0x1_0000_0000;
}

function headerOf(datapath: OvsDatapath, command: number): ObjectHeader {
  return { family: Family.METER, command, version: 1, interfaceIndex: datapath.interfaceIndex };
}

function writeFeatures(writer: MessageWriter): void {
  writer.u32(A.MAX_METERS, METERS_MAXIMUM);
  writer.u32(A.MAX_BANDS, BANDS_MAXIMUM);
  const bands = beginNest(writer, A.BANDS);
  const band = beginNest(writer, 0);
  writer.u32(Band.TYPE, BAND_DROP);
  writer.endNested(band);
  writer.endNested(bands);
}

/** @param meter undefined when there is nothing to tell but the id */
function write(writer: MessageWriter, id: number, meter: Meter | undefined): void {
  writer.u32(A.ID, id);
  if (meter === undefined) return;
  writer.bytes(A.STATS, counters(meter.packets, meter.bytes));
  writer.bytes(A.USED, counters(Math.floor(meter.usedMs)));
  const bands = beginNest(writer, A.BANDS);
  meter.bands.forEach((band, i) => {
    const nest = beginNest(writer, i + 1);
    writer.bytes(Band.STATS, counters(band.packets, band.bytes));
    writer.endNested(nest);
  });
  writer.endNested(bands);
}
