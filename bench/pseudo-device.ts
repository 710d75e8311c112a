/**
 * A program's side of the pseudo device, as the shim is one: netlink datagrams to Open vSwitch's datapath in a daemon, from this process,
 * so that what a put costs is not hidden behind the start of ovs-dpctl. Every call waits for its answer.
 */
import koffi from 'koffi';
import { KeyAttribute } from '../src/flow/index.ts';
import { MessageWriter, NlmFlag, Nlmsg } from '../src/netlink/index.ts';

const libc = koffi.load('libc.so.6');
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const connectCall = libc.func('int connect(int fd, const void *address, unsigned int length)');
const sendCall = libc.func('long send(int fd, const void *bytes, size_t length, int flags)');
const receiveCall = libc.func('long recv(int fd, _Out_ void *bytes, size_t length, int flags)');
const closeCall = libc.func('int close(int fd)');

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const ADDRESS_BYTES = 110;
/** Frames of the pseudo device: native/millrace-shim.c has the drawing. */
const Frame = { DATAGRAM: 0, DONE: 1, BUNDLE: 6 } as const;
const FLOW_FAMILY = 0x7003;
const NEW = 1;
const Attribute = { KEY: 1, ACTIONS: 2, MASK: 7 } as const;
const GENERIC_HEADER_BYTES = 8;

/** Flows that drop UDP packets of one source address, all under one mask unless told otherwise. */
export interface DropFlow {
  readonly inPort: number;
  /** IPv4 source address as a number. */
  readonly source: number;
  /** Bits of the source address that its mask looks at; all when left out. */
  readonly sourceMask?: number;
}

/** A connection to the pseudo device. */
export class PseudoDeviceClient {
  readonly #fd: number;
  readonly #frame = new Uint8Array(1 << 20);
  readonly #writer = new MessageWriter({ initialBytes: 1 << 18 });
  /** The first error of what was sent last. */
  #refusal = 0;

  /** @throws Error when nobody listens there */
  constructor(path: string) {
    const address = new Uint8Array(ADDRESS_BYTES);
    address[0] = AF_UNIX;
    new TextEncoder().encodeInto(path, address.subarray(2, ADDRESS_BYTES - 1));
    this.#fd = socketCall(AF_UNIX, SOCK_SEQPACKET, 0);
    if (connectCall(this.#fd, address, ADDRESS_BYTES) !== 0) {
      closeCall(this.#fd);
      throw new Error(`cannot connect to ${path}`);
    }
  }

  /**
   * Put flows by one datagram, and wait until it has been worked through.
   * @param datapath interface index of its local port
   * @throws Error when one is refused
   */
  put(datapath: number, flows: readonly DropFlow[]): void {
    this.send(datapath, flows);
    this.wait();
  }

  /** The first half of {@link put}. */
  send(datapath: number, flows: readonly DropFlow[]): void {
    const writer = this.#writer;
    writer.reset();
    writer.raw(new Uint8Array(4).fill(Frame.DATAGRAM));
    const header = new Uint8Array(GENERIC_HEADER_BYTES);
    header[0] = NEW;
    header[1] = 1;
    new DataView(header.buffer).setUint32(4, datapath, true);
    for (const [index, flow] of flows.entries()) {
      writer.begin(FLOW_FAMILY, NlmFlag.REQUEST | NlmFlag.CREATE, index + 1);
      writer.raw(header);
      writeMatch(writer, Attribute.KEY, flow.inPort, flow.source, 17);
      writeMatch(writer, Attribute.MASK, 0xffff_ffff, flow.sourceMask ?? 0xffff_ffff, 0xff);
      writer.endNested(writer.beginNested(Attribute.ACTIONS));
      writer.end();
    }
    const frame = writer.view();
    if (sendCall(this.#fd, frame, frame.length, 0) !== frame.length)
      throw new Error('the pseudo device takes no datagram');
  }

  /** The second half. */
  wait(): void {
    this.#refusal = 0;
    for (;;) {
      const length = Number(receiveCall(this.#fd, this.#frame, this.#frame.length, 0));
      if (length < 4) throw new Error('the pseudo device has gone');
      if (this.#isDone(new DataView(this.#frame.buffer, 0, length))) break;
    }
    if (this.#refusal !== 0) throw new Error(`the datapath refused a flow with error ${this.#refusal}`);
  }

  /** Look at a frame, or at those of a bundle. @returns whether a "done" was among them */
  #isDone(frame: DataView): boolean {
    const kind = frame.getUint32(0, true);
    if (kind === Frame.DONE) return true;
    if (kind === Frame.DATAGRAM && frame.byteLength >= 24 && frame.getUint16(8, true) === Nlmsg.ERROR) {
      this.#refusal ||= -frame.getInt32(20, true);
    }
    if (kind !== Frame.BUNDLE) return false;
    let isDone = false;
    for (let at = 4; at + 4 <= frame.byteLength; ) {
      const length = frame.getUint32(at, true);
      isDone = this.#isDone(new DataView(frame.buffer, frame.byteOffset + at + 4, length)) || isDone;
      at += 4 + ((length + 3) & ~3);
    }
    return isDone;
  }

  close(): void {
    closeCall(this.#fd);
  }
}

/** Key or mask: the port, an IPv4 source address, UDP; all else is left open by a mask of zeros. */
function writeMatch(writer: MessageWriter, attribute: number, inPort: number, source: number, protocol: number): void {
  const isMask = attribute === Attribute.MASK;
  const nest = writer.beginNested(attribute);
  writer.u32(KeyAttribute.IN_PORT, inPort);
  writer.bytes(KeyAttribute.ETHERNET, new Uint8Array(12));
  writer.bytes(KeyAttribute.ETHERTYPE, isMask ? Uint8Array.of(0xff, 0xff) : Uint8Array.of(8, 0));
  const ip = new Uint8Array(12);
  new DataView(ip.buffer).setUint32(0, source);
  ip[8] = protocol;
  if (isMask) ip[11] = 0xff;
  writer.bytes(KeyAttribute.IPV4, ip);
  writer.bytes(KeyAttribute.UDP, new Uint8Array(4));
  writer.endNested(nest);
}
