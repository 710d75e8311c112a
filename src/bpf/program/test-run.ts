/**
 * BPF_PROG_TEST_RUN: a program on data of the caller's, with its verdict, its output and its time; and, for XDP, on live frames,
 * which the kernel then treats as if a driver had received them.
 */
import { NativeBlock } from '../../host/sys/index.ts';
import { LayoutError, UnsupportedError } from '../errors.ts';
import { Attributes, blockOf, bpf, bpfOnThread, Errno, failure, kernelRelease, must } from '../sys/bpf.ts';
import { COMMAND, TEST_FLAG } from '../uapi/commands.ts';
import { XDP_MD } from '../uapi/kinds.ts';

/** What a test run starts from. */
export interface TestRunInput {
  /** The packet; at least 14 bytes for XDP and TC. */
  readonly data?: Uint8Array;
  /** The context structure, laid out as in linux/bpf.h (struct xdp_md, struct __sk_buff); what may be set differs by type. */
  readonly context?: Uint8Array;
  /** How often to run; 1 by default. The output is that of the last run. */
  readonly repeat?: number;
  /** Room for what the program makes of the packet; the input's length and 256 bytes more by default. */
  readonly roomBytes?: number;
  /** Or-ed TEST_FLAG bits. */
  readonly flags?: number;
  /** The CPU to run on, with TEST_FLAG.ON_CPU. */
  readonly cpu?: number;
}

/** What a test run gave. */
export interface TestRun {
  /** What the program returned, as a signed number. */
  readonly result: number;
  /** The packet after the program; empty where the type has none. */
  readonly data: Uint8Array;
  /** The context after the program; empty unless one was given. */
  readonly context: Uint8Array;
  /** Time of one run in nanoseconds, an average over the repeats. */
  readonly durationNs: number;
}

const SIZE_BYTES = 80;
/** Frames up to this length fit on every kernel. */
const SAFE_FRAME_BYTES = 3000;
const EMPTY = new Uint8Array(0);

/** Run a program. @see Program.run */
export function testRun(fd: number, name: string, input: TestRunInput): TestRun {
  const data = input.data ?? EMPTY;
  const context = input.context ?? EMPTY;
  const room = data.length === 0 ? 0 : (input.roomBytes ?? data.length + 256);
  const dataOut = new NativeBlock(room);
  const contextOut = new NativeBlock(context.length);
  const attributes = new Attributes(SIZE_BYTES);
  attributes.u32[0] = fd;
  attributes.u32[2] = data.length;
  attributes.u32[3] = room;
  if (data.length > 0) attributes.point(16, blockOf(data));
  if (room > 0) attributes.point(24, dataOut);
  attributes.u32[8] = input.repeat ?? 1;
  attributes.u32[10] = context.length;
  attributes.u32[11] = context.length;
  if (context.length > 0) {
    attributes.point(48, blockOf(context));
    attributes.point(56, contextOut);
  }
  attributes.u32[16] = input.flags ?? 0;
  attributes.u32[17] = input.cpu ?? 0;
  must(bpf(COMMAND.PROG_TEST_RUN, attributes, SIZE_BYTES), COMMAND.PROG_TEST_RUN, `run program "${name}"`);
  return {
    result: attributes.i32[1],
    data: dataOut.bytes.slice(0, Math.min(attributes.u32[3], room)),
    context: contextOut.bytes.slice(0, Math.min(attributes.u32[11], context.length)),
    durationNs: attributes.u32[9],
  };
}

/** Frames for an XDP program that are really sent. */
export interface LiveFrames {
  /** What every frame starts as. The kernel reuses frames without restoring them: a program that varies them writes all it relies on. */
  readonly data: Uint8Array;
  /** How many frames. */
  readonly count: number;
  /** Frames taken together, 1 to 256; 64 by default. */
  readonly batch?: number;
  /** The interface that the program sees as the one the frame came in by; loopback by default. */
  readonly ingressIfindex?: number;
}

/** Everything a live run needs, made once and used for many. */
export class LiveFrameRun {
  readonly #attributes = new Attributes(SIZE_BYTES);
  readonly #name: string;
  readonly #lengthBytes: number;

  constructor(fd: number, name: string, frames: Omit<LiveFrames, 'count'>) {
    this.#name = name;
    this.#lengthBytes = frames.data.length;
    const context = new NativeBlock(24);
    context.view.setUint32(XDP_MD.dataEnd, frames.data.length, true);
    context.view.setUint32(XDP_MD.ingressIfindex, frames.ingressIfindex ?? 1, true);
    const attributes = this.#attributes;
    attributes.u32[0] = fd;
    attributes.u32[2] = frames.data.length;
    attributes.point(16, blockOf(frames.data));
    attributes.u32[10] = 24;
    attributes.point(48, context);
    attributes.u32[16] = TEST_FLAG.XDP_LIVE_FRAMES;
    attributes.u32[18] = frames.batch ?? 64;
  }

  /**
   * Send on this thread.
   * @returns false when a signal cut it short
   * @throws UnsupportedError before Linux 5.18, LayoutError for a frame that is too long, SystemError
   */
  run(count: number): boolean {
    this.#attributes.u32[8] = count;
    return this.#outcome(bpf(COMMAND.PROG_TEST_RUN, this.#attributes, SIZE_BYTES));
  }

  /** Send on a thread of the pool. One run at a time. @returns as {@link run} */
  async runOnThread(count: number): Promise<boolean> {
    this.#attributes.u32[8] = count;
    return this.#outcome(await bpfOnThread(COMMAND.PROG_TEST_RUN, this.#attributes, SIZE_BYTES));
  }

  #outcome(result: number): boolean {
    if (result >= 0) return true;
    if (result === -Errno.EINTR) return false;
    if (result === -Errno.EINVAL && olderThan(5, 18)) {
      throw new UnsupportedError('live frames in test runs', '5.18', kernelRelease());
    }
    if (result === -Errno.EINVAL && this.#lengthBytes > SAFE_FRAME_BYTES) {
      const room = "a page has room for about 3400 bytes beside the kernel's own data";
      throw new LayoutError(`a live frame of ${this.#lengthBytes} bytes is too long: ${room}`);
    }
    throw failure(COMMAND.PROG_TEST_RUN, result, `send live frames with program "${this.#name}"`);
  }
}

/** Send live frames. @see Program.runLiveFrames */
export function runLiveFrames(fd: number, name: string, frames: LiveFrames): void {
  new LiveFrameRun(fd, name, frames).run(frames.count);
}

function olderThan(major: number, minor: number): boolean {
  const [runningMajor = 0, runningMinor = 0] = kernelRelease()
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  return runningMajor < major || (runningMajor === major && runningMinor < minor);
}
