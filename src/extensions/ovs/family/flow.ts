/** Family ovs_flow: megaflows by key or identifier, put, changed, read, dumped, deleted. */
import { FlowError, KEY_WORDS, PutMode, UFID_MAXIMUM_BYTES } from '../../../flow/index.ts';
import { type MessageWriter, NlmFlag } from '../../../netlink/index.ts';
import { FlowAttribute as A, Command, Family, Group, UfidFlag } from '../abi.ts';
import { counters } from '../attributes.ts';
import type { ObjectHeader } from '../device/reply.ts';
import { Errno, OvsError } from '../errors.ts';
import type { OvsDatapath } from '../ovs-datapath.ts';
import { decodeActions, encodeActions } from '../translate/actions.ts';
import { decodeKey, decodeMatch, newMatch } from '../translate/key-decode.ts';
import { encodeKey } from '../translate/key-encode.ts';
import { announce } from './notify.ts';
import { datapathOf, type FamilyRequest, unsupported } from './request.ts';

export const FLOW_ATTRIBUTES = 11;

/** Of the request that is being carried out. */
const match = newMatch();
const maskedKey = new Uint32Array(KEY_WORDS);
/** Of the flow that is being written. */
const key = new Uint32Array(KEY_WORDS);

/** @throws OvsError */
export function handleFlow(request: FamilyRequest): void {
  switch (request.command) {
    case Command.NEW:
      put(request);
      break;
    case Command.SET:
      change(request);
      break;
    case Command.GET:
      if (request.isDump) {
        dump(request);
      } else {
        const datapath = datapathOf(request);
        const slot = find(request, datapath);
        const flags = ufidFlags(request);
        request.reply.object(headerOf(datapath, Command.GET), (writer) => write(writer, datapath, slot, flags));
      }
      break;
    case Command.DEL:
      remove(request);
      break;
    default:
      unsupported(request);
  }
}

/** @throws OvsError ERANGE for an identifier that is empty */
function ufidOf(request: FamilyRequest): Uint8Array | null {
  const ufid = request.attributes.content(A.UFID, 1);
  // The kernel goes by the key when the length makes no sense.
  if (ufid === null || ufid.length > UFID_MAXIMUM_BYTES) return null;
  return ufid;
}

/** What answers are to leave out. Read before anything is done: it may be refused. @throws OvsError ERANGE */
function ufidFlags(request: FamilyRequest): number {
  return request.attributes.u32(A.UFID_FLAGS) ?? 0;
}

function put(request: FamilyRequest): void {
  const { attributes } = request;
  const flags = ufidFlags(request);
  const content = attributes.nest(A.KEY);
  const list = attributes.nest(A.ACTIONS);
  if (content === null || list === null) throw new OvsError(Errno.EINVAL, 'key or actions are missing');
  const { key, mask } = decodeMatch(content, attributes.nest(A.MASK), match);
  const actions = decodeActions(list, masked(key, mask));
  const datapath = datapathOf(request);
  const isNew = (request.flags & (NlmFlag.CREATE | NlmFlag.EXCL)) !== 0;
  const mode = isNew ? PutMode.CREATE : PutMode.CREATE_OR_MODIFY;
  const slot = datapath.flows.table.put({ key, mask, actions, ufid: ufidOf(request), mode });
  if (slot < 0) throw new OvsError(-slot, slot === FlowError.EXISTS ? 'the flow exists' : 'the flow was not put');
  if (attributes.has(A.CLEAR)) datapath.flows.table.clearCounts(slot);
  tell(request, datapath, slot, Command.NEW, flags);
}

function change(request: FamilyRequest): void {
  const { attributes } = request;
  const flags = ufidFlags(request);
  const content = attributes.nest(A.KEY);
  const list = attributes.nest(A.ACTIONS);
  const ufid = ufidOf(request);
  if (content === null && (ufid === null || list !== null)) throw new OvsError(Errno.EINVAL, 'the key is missing');
  if (content !== null) decodeMatch(content, attributes.nest(A.MASK), match);
  const actions = list === null || content === null ? null : decodeActions(list, masked(match.key, match.mask));
  const datapath = datapathOf(request);
  const table = datapath.flows.table;
  let slot = -1;
  if (ufid !== null) slot = table.findUfid(ufid);
  else if (content !== null) slot = table.findExact(match.key);
  if (slot < 0) throw new OvsError(Errno.ENOENT, 'no such flow');
  if (actions !== null && table.setActions(slot, actions) < 0) throw new OvsError(Errno.EINVAL, 'too many actions');
  tell(request, datapath, slot, Command.SET, flags);
  if (attributes.has(A.CLEAR)) table.clearCounts(slot);
}

function remove(request: FamilyRequest): void {
  const { attributes } = request;
  const flags = ufidFlags(request);
  const datapath = datapathOf(request);
  if (!attributes.has(A.KEY) && ufidOf(request) === null) {
    datapath.flows.table.flush();
    return;
  }
  const slot = find(request, datapath);
  tell(request, datapath, slot, Command.DEL, flags);
  datapath.flows.table.remove(slot);
}

/** @throws OvsError ENOENT, and EINVAL for a key that is none */
function find(request: FamilyRequest, datapath: OvsDatapath): number {
  const table = datapath.flows.table;
  const ufid = ufidOf(request);
  const content = request.attributes.nest(A.KEY);
  const key = content === null ? null : decodeKey(content);
  if (ufid === null && key === null) throw new OvsError(Errno.EINVAL, 'neither key nor identifier');
  let slot = -1;
  if (ufid !== null) slot = table.findUfid(ufid);
  else if (key !== null) slot = table.findExact(key);
  if (slot < 0) throw new OvsError(Errno.ENOENT, 'no such flow');
  return slot;
}

function dump(request: FamilyRequest): void {
  const datapath = datapathOf(request);
  const flags = ufidFlags(request);
  request.reply.dump(slotsOf(request, datapath), headerOf(datapath, Command.GET), (writer, slot) =>
    write(writer, datapath, slot, flags),
  );
}

/** The slots of all flows that are there from now on to the end of the dump. @throws OvsError ENODEV when the datapath has gone */
function* slotsOf(request: FamilyRequest, datapath: OvsDatapath): Generator<number> {
  const { interfaceIndex, state } = request;
  const table = datapath.flows.table;
  const end = table.slotEnd;
  for (let slot = table.next(0, end); slot !== -1; slot = table.next(slot + 1, end)) {
    yield slot;
    if (state.datapaths.get(interfaceIndex) !== datapath) throw new OvsError(Errno.ENODEV, 'the datapath has gone');
  }
}

function tell(request: FamilyRequest, datapath: OvsDatapath, slot: number, command: number, flags: number): void {
  announce(request, Group.FLOW, headerOf(datapath, command), (writer) => write(writer, datapath, slot, flags));
}

function headerOf(datapath: OvsDatapath, command: number): ObjectHeader {
  return { family: Family.FLOW, command, version: 1, interfaceIndex: datapath.interfaceIndex };
}

/** The key with the bits outside its mask 0, in an array that the next call overwrites. */
function masked(key: Uint32Array, mask: Uint32Array): Uint32Array {
  for (let i = 0; i < KEY_WORDS; i += 1) maskedKey[i] = key[i] & mask[i];
  return maskedKey;
}

function write(writer: MessageWriter, datapath: OvsDatapath, slot: number, flags: number): void {
  const table = datapath.flows.table;
  table.refreshCounts(slot);
  const ufid = table.ufidOf(slot);
  if (ufid !== null) writer.bytes(A.UFID, ufid);
  const omits = (flag: number) => ufid !== null && (flags & flag) !== 0;
  const omitsKey = omits(UfidFlag.OMIT_KEY);
  const omitsMask = omits(UfidFlag.OMIT_MASK);
  if (!omitsKey || !omitsMask) table.readKey(slot, key);
  if (!omitsKey) encodeKey(writer, A.KEY, key, key);
  if (!omitsMask) {
    // Flows without an identifier are named by their whole key; what a mask is of is told by what counts.
    const { words } = table.maskOf(slot);
    encodeKey(writer, A.MASK, masked(key, words), words);
  }
  if (table.usedMsOf(slot) > 0) writer.bytes(A.USED, counters(Math.floor(table.usedMsOf(slot))));
  if (table.packetsOf(slot) > 0) writer.bytes(A.STATS, counters(table.packetsOf(slot), table.bytesOf(slot)));
  if ((table.tcpFlagsOf(slot) & 0xff) !== 0) writer.u8(A.TCP_FLAGS, table.tcpFlagsOf(slot) & 0xff);
  if (omits(UfidFlag.OMIT_ACTIONS)) return;
  const from = table.actionsOffset(slot);
  encodeActions(writer, A.ACTIONS, table.heap.words, from, from === 0 ? 0 : from + table.heap.lengthAt(from));
}
