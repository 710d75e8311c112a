/**
 * Takes netlink datagrams of programs apart, hands each message to its family, and acknowledges as the kernel does: always when
 * something is wrong or when asked to, and by the end of the dump for dumps.
 */
import { CONTROLLER_FAMILY, type Message, NetlinkError, NlmFlag, Nlmsg } from '../../netlink/index.ts';
import { Family } from './abi.ts';
import { u16At, u32At } from './attributes.ts';
import type { Connection } from './device/connection.ts';
import { PseudoDevice } from './device/pseudo-device.ts';
import { Reply } from './device/reply.ts';
import { Errno, OvsError } from './errors.ts';
import { handleController } from './family/controller.ts';
import { CT_LIMIT_ATTRIBUTES, handleCtLimit } from './family/ct-limit.ts';
import { announceDatapathGone, DATAPATH_ATTRIBUTES, handleDatapath, makeDatapath } from './family/datapath.ts';
import { FLOW_ATTRIBUTES, handleFlow } from './family/flow.ts';
import { handleMeter, METER_ATTRIBUTES } from './family/meter.ts';
import { handleNetfilter, isConnectionMessage, type WorkOn } from './family/netfilter/index.ts';
import { handlePacket, PACKET_ATTRIBUTES } from './family/packet.ts';
import { type FamilyRequest, type OvsState, parseRequest } from './family/request.ts';
import { announceGone, handleVport, VPORT_ATTRIBUTES } from './family/vport.ts';
import type { OvsHost } from './host.ts';
import type { OvsDatapath } from './ovs-datapath.ts';
import type { Buffers } from './plain.ts';
import { LOCAL_PORT } from './port-number.ts';
import { Tunnels } from './tunnel/tunnels.ts';
import type { Vport } from './vport.ts';

const HEADER_BYTES = 16;

interface FamilyEntry {
  readonly attributes: number;
  /** Commands that can be dumped. */
  readonly dumps: boolean;
  readonly handle: (request: FamilyRequest) => void;
}

const GET = 3;

const FAMILIES = new Map<number, FamilyEntry>([
  [Family.DATAPATH, { attributes: DATAPATH_ATTRIBUTES, dumps: true, handle: handleDatapath }],
  [Family.VPORT, { attributes: VPORT_ATTRIBUTES, dumps: true, handle: handleVport }],
  [Family.FLOW, { attributes: FLOW_ATTRIBUTES, dumps: true, handle: handleFlow }],
  [Family.PACKET, { attributes: PACKET_ATTRIBUTES, dumps: false, handle: handlePacket }],
  [Family.METER, { attributes: METER_ATTRIBUTES, dumps: false, handle: handleMeter }],
  [Family.CT_LIMIT, { attributes: CT_LIMIT_ATTRIBUTES, dumps: false, handle: handleCtLimit }],
]);

/** Pieces of work that may go on at once without a program that waits for them. */
const WORKS_MAXIMUM = 16;

/** Open vSwitch's kernel side: the pseudo device with the datapaths behind it. */
export class OvsServer {
  readonly device: PseudoDevice;
  readonly datapaths = new Map<number, OvsDatapath>();
  readonly #state: OvsState;
  /** Pieces of work that go on. */
  #works = 0;
  #isClosed = false;

  constructor(host: OvsHost, buffers: Buffers) {
    this.device = new PseudoDevice((connection, datagram) => this.#datagram(connection, datagram));
    const { tunnels = null } = host;
    this.#state = {
      datapaths: this.datapaths,
      device: this.device,
      host,
      buffers,
      connections: host.connections,
      tunnels: tunnels === null ? null : new Tunnels(tunnels, this.datapaths, buffers, () => host.nowMs()),
      onPortGone: (datapath, port) => this.#portGone(datapath, port),
    };
  }

  /** Make a datapath that no program has asked for. @throws OvsError EEXIST, and what the host says of its local port */
  addDatapath(name: string): OvsDatapath {
    for (const other of this.datapaths.values()) {
      if (other.portNamed(name) !== undefined) throw new OvsError(Errno.EEXIST, `${name} exists`);
    }
    return makeDatapath(this.#state, name, [0]);
  }

  removeDatapath(datapath: OvsDatapath): void {
    this.datapaths.delete(datapath.interfaceIndex);
    datapath.close();
  }

  /** Close all datapaths. */
  close(): void {
    this.#isClosed = true;
    for (const datapath of this.datapaths.values()) datapath.close();
    this.datapaths.clear();
    this.#state.tunnels?.close();
  }

  readonly #workOn: WorkOn = (step) => {
    const { host } = this.#state;
    if (this.#works >= WORKS_MAXIMUM) throw new OvsError(Errno.EBUSY, `${WORKS_MAXIMUM} flushes go on`);
    let isOver = step();
    if (host.later === undefined) {
      while (!isOver) isOver = step();
      return;
    }
    if (isOver) return;
    this.#works += 1;
    const goOn = () => {
      if (!this.#isClosed && !step()) host.later?.(goOn);
      else this.#works -= 1;
    };
    host.later(goOn);
  };

  /** The device of a port has vanished, and with the local port's its datapath. */
  #portGone(datapath: OvsDatapath, port: Vport): void {
    if (port.number === LOCAL_PORT) {
      announceDatapathGone(this.device, datapath);
      this.removeDatapath(datapath);
    } else {
      announceGone(this.device, datapath, port);
      datapath.removePort(port);
    }
  }

  /** As netlink_rcv_skb: a message whose length makes no sense ends the datagram, those before it are carried out. */
  #datagram(connection: Connection, datagram: Uint8Array): void {
    let at = 0;
    while (datagram.length - at >= HEADER_BYTES) {
      const length = u32At(datagram, at);
      if (length < HEADER_BYTES || length > datagram.length - at) return;
      const message: Message = {
        type: u16At(datagram, at + 4),
        flags: u16At(datagram, at + 6),
        sequence: u32At(datagram, at + 8),
        port: u32At(datagram, at + 12),
        bytes: datagram.subarray(at, at + length),
      };
      at += (length + 3) & ~3;
      if ((message.flags & NlmFlag.REQUEST) !== 0) this.#message(new Reply(connection, message));
    }
  }

  #message(reply: Reply): void {
    const { flags, type } = reply.request;
    const isDump = (flags & NlmFlag.DUMP) === NlmFlag.DUMP;
    let dumped = false;
    let errno = 0;
    try {
      if (type >= Nlmsg.MIN_TYPE) dumped = this.#dispatch(reply, isDump);
    } catch (error) {
      // A NetlinkError is an answer that is too long for its attribute.
      if (!(error instanceof OvsError || error instanceof NetlinkError)) throw error;
      errno = error.errno;
    }
    if (dumped) return;
    if (errno !== 0 || (flags & NlmFlag.ACK) !== 0) reply.acknowledge(errno);
  }

  /** @returns whether it was a dump, which its end acknowledges */
  #dispatch(reply: Reply, isDump: boolean): boolean {
    const message = reply.request;
    if (message.type === CONTROLLER_FAMILY) {
      handleController(message, reply);
      return false;
    }
    if (isConnectionMessage(message.type))
      return handleNetfilter(message, reply, this.#state.connections, this.#workOn);
    const family = FAMILIES.get(message.type);
    if (family === undefined) throw new OvsError(Errno.ENOENT, `no family ${message.type}`);
    // NEW and DEL have other flags in the same bits.
    const command = message.bytes.length > HEADER_BYTES ? message.bytes[HEADER_BYTES] : 0;
    const dumps = isDump && command === GET;
    if (dumps && !family.dumps) throw new OvsError(Errno.EOPNOTSUPP, 'this cannot be dumped');
    if (dumps && reply.connection.isDumping) throw new OvsError(Errno.EBUSY, 'another dump goes on');
    const request = parseRequest(message, dumps, family.attributes, reply, this.#state);
    try {
      family.handle(request);
    } catch (error) {
      if (!dumps || !(error instanceof OvsError)) throw error;
      reply.failDump(error.errno);
    }
    return dumps;
  }
}
