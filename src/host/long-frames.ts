/**
 * Frames that a packet socket refuses for their length although the Linux bridge sends them. The bridge keeps a frame's outermost VLAN tag beside the
 * frame, where it does not count; a packet socket has no such place, and allows for one tag: a full-size frame with two is EMSGSIZE there. These few go
 * through a program of our own, which the kernel runs for us once a frame (BPF_PROG_TEST_RUN): it is given the frame without its outermost tag, puts
 * the tag beside it, and sends it through the device.
 *
 *      __sk_buff.cb   word 0: TPID in network order | word 1: TCI | word 2: interface index
 *
 * A run takes some microseconds, and the kernel takes frames of nearly a page: some 3,700 bytes where pages have 4 KB.
 * Neighbours: packet-sender.ts and packet-tx-ring.ts come here with what they could not send.
 */
import {
  Checksum,
  completeChecksum,
  exceedsMtu,
  MAC_ADDRESSES_BYTES,
  outerTag,
  Packet,
  Region,
  SegmentResult,
  TAG_BYTES,
} from '../net/index.ts';
import { REDIRECT_MARK, TC_INDEX } from './drop-program.ts';
import { FrameVectors } from './frame-vectors.ts';
import {
  Errno,
  type FileDescriptor,
  hostToNetwork16,
  lastErrno,
  NativeBlock,
  NetworkNamespace,
  rawBpf,
  SystemError,
} from './sys/index.ts';
import { instructions, loadTcProgram } from './tc-program.ts';
import { readVirtioHeader, VIRTIO_HEADER_BYTES } from './virtio-header.ts';

const COMMAND_PROG_TEST_RUN = 10;
const ATTRIBUTES_BYTES = 80;
/** Of union bpf_attr, in bytes: what the program returned, and what it is given. */
const Attribute = { RETURNED: 4, DATA_LENGTH: 8, DATA: 16, CONTEXT_LENGTH: 40, CONTEXT: 48 } as const;

/** struct __sk_buff as far as the program reads it. */
const CONTEXT_BYTES = 68;
const TPID_AT = 48;
const TCI_AT = 52;
const INTERFACE_AT = 56;

const HELPER_CLONE_REDIRECT = 13;
const HELPER_VLAN_PUSH = 18;

const sendWithTag = instructions(
  [0xbf, 0x16, 0, 0], //                    r6 = r1
  [0x61, 0x62, TPID_AT, 0], //              r2 = *(u32 *)(r6 + cb[0])
  [0x61, 0x63, TCI_AT, 0], //               r3 = *(u32 *)(r6 + cb[1])
  [0x85, 0x00, 0, HELPER_VLAN_PUSH], //     call skb_vlan_push
  [0x55, 0x00, 6, 0], //                    if r0 != 0 goto exit
  [0xb7, 0x02, 0, REDIRECT_MARK], //        r2 = mark
  [0x63, 0x26, TC_INDEX, 0], //             *(u32 *)(r6 + tc_index) = r2
  [0xbf, 0x61, 0, 0], //                    r1 = r6
  [0x61, 0x62, INTERFACE_AT, 0], //         r2 = *(u32 *)(r6 + cb[2])
  [0xb7, 0x03, 0, 0], //                    r3 = 0: out
  [0x85, 0x00, 0, HELPER_CLONE_REDIRECT], // call clone_redirect
  [0x95, 0x00, 0, 0], //                    exit
);

/** Longest frame that is copied; what the kernel takes is less. */
const LONGEST_BYTES = 8192;
/** Where a frame begins in the memory that it is put together in; its virtio header is before it. */
const FRAME_AT = 16;

/** What is made when the first such frame comes. */
interface Means {
  readonly program: FileDescriptor;
  readonly memory: NativeBlock;
  readonly attributes: NativeBlock;
  readonly context: NativeBlock;
  readonly packet: Packet;
}

/** Sends long frames through one device. */
export class LongFrameSender {
  /** The device's MTU. */
  mtuBytes = 0;
  readonly #interfaceIndex: number;
  /** The program finds the device in the namespace of the calling thread, where another may have its number. */
  readonly #namespace = NetworkNamespace.identityHere();
  readonly #single = new FrameVectors(1);
  #means: Means | null = null;
  #isRefused = false;

  /** @param interfaceIndex in the calling thread's network namespace, which has to be the same when something is sent */
  constructor(interfaceIndex: number) {
    this.#interfaceIndex = interfaceIndex;
  }

  /**
   * Send a frame that is described by vectors.
   * @param index the frame's entry
   * @param pieces how many vectors it has
   * @returns 0 when it was sent; else an errno, EMSGSIZE for a frame that is too long for the device, or cannot be sent this way
   */
  send(vectors: FrameVectors, index: number, pieces: number): number {
    const length = vectors.lengths[index];
    if (length > LONGEST_BYTES) return Errno.EMSGSIZE;
    const means = this.#have();
    if (means === null) return Errno.EMSGSIZE;
    const { memory, packet } = means;
    vectors.copyOut(index, pieces, memory.address + FRAME_AT - VIRTIO_HEADER_BYTES);
    packet.offset = FRAME_AT;
    packet.length = length;
    if (!readVirtioHeader(memory.view, FRAME_AT - VIRTIO_HEADER_BYTES, packet)) return Errno.EINVAL;
    if (packet.gsoType !== 0 || outerTag(packet) === 0 || exceedsMtu(packet, this.mtuBytes)) return Errno.EMSGSIZE;
    if (packet.checksum === Checksum.PARTIAL && completeChecksum(packet) !== SegmentResult.DONE) return Errno.EINVAL;
    if (NetworkNamespace.identityHere() !== this.#namespace) return Errno.EMSGSIZE;
    return this.#run(means);
  }

  /** As {@link send}, for a packet with a TagAction. */
  sendPacket(packet: Packet, tag: number): number {
    const pieces = this.#single.set(0, packet, tag);
    return pieces === 0 ? Errno.EINVAL : this.send(this.#single, 0, pieces);
  }

  #run({ program, memory, attributes, context, packet }: Means): number {
    const { bytes } = memory;
    const tag = FRAME_AT + MAC_ADDRESSES_BYTES;
    context.u32[TPID_AT / 4] = hostToNetwork16((bytes[tag] << 8) | bytes[tag + 1]);
    context.u32[TCI_AT / 4] = (bytes[tag + 2] << 8) | bytes[tag + 3];
    context.u32[INTERFACE_AT / 4] = this.#interfaceIndex;
    bytes.copyWithin(FRAME_AT + TAG_BYTES, FRAME_AT, tag);
    attributes.u32[0] = program.number;
    attributes.u32[Attribute.DATA_LENGTH / 4] = packet.length - TAG_BYTES;
    attributes.setAddress(Attribute.DATA, memory.address + FRAME_AT + TAG_BYTES);
    attributes.u32[Attribute.CONTEXT_LENGTH / 4] = CONTEXT_BYTES;
    attributes.setAddress(Attribute.CONTEXT, context.address);
    if (rawBpf(COMMAND_PROG_TEST_RUN, attributes, ATTRIBUTES_BYTES) < 0) {
      const errno = lastErrno();
      // The kernel runs programs on frames of nearly a page.
      return errno === Errno.EINVAL ? Errno.EMSGSIZE : errno;
    }
    const returned = attributes.i32[Attribute.RETURNED / 4];
    // Positive is NET_XMIT_DROP and the like: a queue is full.
    return returned > 0 ? Errno.ENOBUFS : -returned;
  }

  #have(): Means | null {
    if (this.#means !== null || this.#isRefused) return this.#means;
    try {
      const memory = new NativeBlock(FRAME_AT + LONGEST_BYTES);
      const packet = new Packet({ recycle: () => {} }, new Region(memory.bytes.buffer), 0);
      packet.limit = FRAME_AT + LONGEST_BYTES;
      this.#means = {
        program: loadTcProgram('millrace_long', sendWithTag, 'the program that sends long frames'),
        memory,
        attributes: new NativeBlock(ATTRIBUTES_BYTES),
        context: new NativeBlock(CONTEXT_BYTES),
        packet,
      };
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#isRefused = true;
    }
    return this.#means;
  }

  /** Closing twice is harmless. */
  close(): void {
    this.#means?.program.close();
    this.#means = null;
    this.#isRefused = true;
  }
}
