/** Family ovs_datapath: datapaths come, change, go and are counted. */
import type { MessageWriter } from '../../../netlink/index.ts';
import {
  DatapathAttribute as A,
  Command,
  Family,
  FEATURES_KNOWN,
  Feature,
  Group,
  NAME_MAXIMUM_BYTES,
  VportType,
} from '../abi.ts';
import { counters, u32At } from '../attributes.ts';
import type { PseudoDevice } from '../device/pseudo-device.ts';
import { Errno, OvsError } from '../errors.ts';
import { OvsDatapath } from '../ovs-datapath.ts';
import { LOCAL_PORT } from '../port-number.ts';
import { announce, announceUnasked } from './notify.ts';
import { type FamilyRequest, type OvsState, unsupported } from './request.ts';

export const DATAPATH_ATTRIBUTES = 9;
/** Entries of a mask cache that fit the kernel's memory of one processor. */
const CACHE_MAXIMUM = 4096;

/** @throws OvsError */
export function handleDatapath(request: FamilyRequest): void {
  switch (request.command) {
    case Command.NEW:
      create(request);
      break;
    case Command.DEL: {
      const datapath = find(request);
      const header = headerOf(datapath, Command.DEL);
      announce(request, Group.DATAPATH, header, (writer) => write(writer, datapath));
      request.state.datapaths.delete(datapath.interfaceIndex);
      datapath.close();
      break;
    }
    case Command.GET:
      if (request.isDump) {
        dump(request);
        return;
      }
      answer(request, find(request));
      break;
    case Command.SET: {
      const datapath = find(request);
      change(datapath, readChange(request));
      announce(request, Group.DATAPATH, headerOf(datapath, Command.SET), (writer) => write(writer, datapath));
      break;
    }
    default:
      unsupported(request);
  }
}

function dump(request: FamilyRequest): void {
  // The map's own iterator goes on over what comes and goes meanwhile.
  request.reply.dumpObjects(request.state.datapaths.values(), (datapath) => headerOf(datapath, Command.GET), write);
}

function answer(request: FamilyRequest, datapath: OvsDatapath): void {
  request.reply.object(headerOf(datapath, Command.GET), (writer) => write(writer, datapath));
}

interface Change {
  readonly features: number;
  readonly cpuPids: readonly number[] | null;
  readonly cacheSize: number | null;
}

/** @throws OvsError EOPNOTSUPP for features that are not there, EINVAL, ERANGE */
function readChange(request: FamilyRequest): Change {
  const { attributes } = request;
  const features = attributes.u32(A.USER_FEATURES) ?? 0;
  if ((features & ~FEATURES_KNOWN) !== 0) throw new OvsError(Errno.EOPNOTSUPP, `features ${features.toString(16)}`);
  const cacheSize = attributes.u32(A.MASKS_CACHE_SIZE);
  if (cacheSize !== null && cacheSize > CACHE_MAXIMUM) throw new OvsError(Errno.ERANGE, `mask cache of ${cacheSize}`);
  if (cacheSize !== null && (cacheSize & (cacheSize - 1)) !== 0) throw new OvsError(Errno.ENOMEM, 'mask cache size');
  const pids = attributes.content(A.PER_CPU_PIDS);
  if (pids === null || (features & Feature.DISPATCH_UPCALL_PER_CPU) === 0)
    return { features, cpuPids: null, cacheSize };
  return { features, cpuPids: readPids(pids), cacheSize };
}

/** Upcall sockets. @throws OvsError EINVAL when they are no whole number, or none */
export function readPids(content: Uint8Array): number[] {
  if (content.length === 0 || content.length % 4 !== 0) throw new OvsError(Errno.EINVAL, 'upcall sockets');
  return Array.from({ length: content.length / 4 }, (_, i) => u32At(content, i * 4));
}

function change(datapath: OvsDatapath, wanted: Change): void {
  datapath.userFeatures = wanted.features;
  if (wanted.cpuPids !== null) datapath.cpuPids = wanted.cpuPids;
  if (wanted.cacheSize !== null) datapath.masksCacheSize = wanted.cacheSize;
}

function create(request: FamilyRequest): void {
  const { attributes, state } = request;
  const name = attributes.name(A.NAME, NAME_MAXIMUM_BYTES);
  const upcallPid = attributes.content(A.UPCALL_PID, 4);
  if (name === null || upcallPid === null) throw new OvsError(Errno.EINVAL, 'name or upcall socket is missing');
  const wanted = readChange(request);
  if ((attributes.u32(A.IFINDEX) ?? 0) !== 0) throw new OvsError(Errno.EOPNOTSUPP, 'the kernel chooses the index');
  for (const datapath of state.datapaths.values()) {
    if (datapath.portNamed(name) === undefined) continue;
    // A program that knows no features takes over what it finds: it must not be surprised by them.
    if (datapath.name === name && request.version < 2) datapath.userFeatures = 0;
    throw new OvsError(Errno.EEXIST, `${name} exists`);
  }
  const datapath = makeDatapath(state, name, readPids(upcallPid));
  change(datapath, wanted);
  announce(request, Group.DATAPATH, headerOf(datapath, Command.NEW), (writer) => write(writer, datapath));
}

/** A new datapath with its local port. @throws OvsError what the host says of its local port, and then nothing is left */
export function makeDatapath(state: OvsState, name: string, upcallPids: readonly number[]): OvsDatapath {
  const { host, device, buffers, onPortGone, tunnels } = state;
  const datapath = new OvsDatapath(name, host, device, buffers, onPortGone, tunnels);
  try {
    datapath.addPort(LOCAL_PORT, { type: VportType.INTERNAL, name, upcallPids, destinationPort: 0 });
  } catch (error) {
    datapath.close();
    throw error;
  }
  state.datapaths.set(datapath.interfaceIndex, datapath);
  return datapath;
}

/** By name, or by the header's index. @throws OvsError ENODEV */
function find(request: FamilyRequest): OvsDatapath {
  const { attributes, state } = request;
  const name = attributes.name(A.NAME, NAME_MAXIMUM_BYTES);
  if (name === null) {
    const datapath = state.datapaths.get(request.interfaceIndex);
    if (datapath !== undefined) return datapath;
  } else {
    for (const datapath of state.datapaths.values()) if (datapath.name === name) return datapath;
  }
  throw new OvsError(Errno.ENODEV, `no datapath ${name ?? request.interfaceIndex}`);
}

/** Tell the group that a datapath goes although no program asked for it. It must still be whole. */
export function announceDatapathGone(device: PseudoDevice, datapath: OvsDatapath): void {
  announceUnasked(device, Group.DATAPATH, headerOf(datapath, Command.DEL), (writer) => write(writer, datapath));
}

function headerOf(datapath: OvsDatapath, command: number) {
  return { family: Family.DATAPATH, command, version: 2, interfaceIndex: datapath.interfaceIndex };
}

function write(writer: MessageWriter, datapath: OvsDatapath): void {
  datapath.flows.table.refreshCounts();
  const statistics = datapath.flows.statistics();
  writer.string(A.NAME, datapath.name);
  writer.bytes(A.STATS, counters(statistics.hits, statistics.misses, statistics.lost, statistics.flows));
  // n_masks and the padding behind it are 32 bits each, which a 64-bit number of little-endian order fills.
  writer.bytes(A.MEGAFLOW_STATS, counters(statistics.masksTried, statistics.masks, statistics.cacheHits, 0));
  writer.u32(A.USER_FEATURES, datapath.userFeatures);
  writer.u32(A.MASKS_CACHE_SIZE, datapath.masksCacheSize);
  if ((datapath.userFeatures & Feature.DISPATCH_UPCALL_PER_CPU) !== 0 && datapath.cpuPids.length > 0) {
    writer.bytes(A.PER_CPU_PIDS, new Uint8Array(Uint32Array.from(datapath.cpuPids).buffer));
  }
}
