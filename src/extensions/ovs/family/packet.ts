/** Family ovs_packet, the way down: a packet with actions to carry out over it. upcall.ts is the way up. */
import { Extraction, extract, FlowKey, hasAttribute, KeyAttribute, Word } from '../../../flow/index.ts';
import { ETHERNET_BYTES } from '../../../net/index.ts';
import { PacketAttribute as A, PacketCommand } from '../abi.ts';
import { eachNested, u16At, u32At } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';
import { asOvsPort, LOCAL_PORT } from '../port-number.ts';
import { decodeActions } from '../translate/actions.ts';
import { decodeMetadata } from '../translate/key-decode.ts';
import { datapathOf, type FamilyRequest, unsupported } from './request.ts';

export const PACKET_ATTRIBUTES = 12;

/** Of the packet that is being handed in; used up before its actions run. */
const metadata = new FlowKey();

/** @throws OvsError */
export function handlePacket(request: FamilyRequest): void {
  if (request.command !== PacketCommand.EXECUTE) unsupported(request);
  const { attributes, state } = request;
  const content = attributes.content(A.PACKET, ETHERNET_BYTES);
  const key = attributes.nest(A.KEY);
  const list = attributes.nest(A.ACTIONS);
  if (content === null || key === null || list === null)
    throw new OvsError(Errno.EINVAL, 'packet, key or actions are missing');
  const mru = attributes.content(A.MRU, 2);
  const hash = attributes.content(A.HASH, 8);
  const execution = {
    hash: hash === null ? null : ([u32At(hash, 0), u32At(hash, 4)] as const),
    upcallPid: attributes.u32(A.UPCALL_PID) ?? 0,
    isProbe: attributes.has(A.PROBE),
  };
  metadata.l3Type = decodeMetadata(key, metadata.words);
  metadata.hasTunnel = metadata.words[Word.TUNNEL_IP] !== 0;
  const { pool, largePool } = state.buffers;
  const packet = (content.length <= pool.maxFrameBytes ? pool : largePool).allocate();
  if (packet === null) throw new OvsError(Errno.ENOBUFS, 'no buffer');
  let isOurs = true;
  try {
    if (content.length > packet.limit - packet.offset) throw new OvsError(Errno.EMSGSIZE, `${content.length} bytes`);
    packet.bytes.set(content, packet.offset);
    packet.length = content.length;
    metadata.largestFragmentBytes = mru === null ? 0 : u16At(mru, 0);
    // What its fragments had is not known any more; it only has to differ from that of others.
    metadata.identification = mru === null ? 0 : Math.floor(Math.random() * 2 ** 32);
    if (extract(packet, metadata) !== Extraction.DONE) throw new OvsError(Errno.EINVAL, 'the packet is malformed');
    checkTuple(key, metadata);
    const actions = decodeActions(list, metadata.words);
    const datapath = datapathOf(request);
    if (!datapath.ports.has(asOvsPort(metadata.inPort)) && !datapath.ports.has(LOCAL_PORT)) {
      throw new OvsError(Errno.ENODEV, 'no input port');
    }
    isOurs = false;
    datapath.execute(packet, metadata, actions, execution);
  } finally {
    if (isOurs) packet.release();
  }
}

/** The original tuple of a connection is of the packet's own version of IP. @throws OvsError EINVAL */
function checkTuple(key: Uint8Array, { words }: FlowKey): void {
  eachNested(key, (type) => {
    const isTuple = type === KeyAttribute.CT_ORIG_TUPLE_IPV4 || type === KeyAttribute.CT_ORIG_TUPLE_IPV6;
    const isNeighbour = type === KeyAttribute.CT_ORIG_TUPLE_IPV6 && hasAttribute(words, KeyAttribute.ND);
    if (isTuple && (isNeighbour || !hasAttribute(words, type))) {
      throw new OvsError(Errno.EINVAL, 'an original tuple that the packet cannot have');
    }
  });
}
