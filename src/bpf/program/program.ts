/**
 * A loaded program: the handle that links, prog arrays and test runs take.
 * Neighbours: program/load.ts makes it, program/test-run.ts runs it, link/ attaches it.
 */
import { FileDescriptor, NativeBlock } from '../../host/sys/index.ts';
import { ClosedError, MapMismatchError } from '../errors.ts';
import { Attributes, bpf, must } from '../sys/bpf.ts';
import { COMMAND } from '../uapi/commands.ts';
import { type ProgramType, programTypeName } from '../uapi/kinds.ts';
import { openPinned, pinObject } from './pin.ts';
import { type LiveFrames, runLiveFrames, type TestRun, type TestRunInput, testRun } from './test-run.ts';

/** What the kernel says of a program (struct bpf_prog_info). */
export interface ProgramInfo {
  readonly type: ReturnType<typeof programTypeName>;
  /** Unique among all programs until the next boot. */
  readonly id: number;
  /** A hash of its instructions, in hex. */
  readonly tag: string;
  readonly name: string;
  readonly translatedBytes: number;
  readonly jitedBytes: number;
  /** When it was loaded, in nanoseconds since boot. */
  readonly loadTimeNs: bigint;
  /** Instructions that the verifier walked (Linux 5.16). */
  readonly verifiedInstructions: number;
  /** Time spent in it and number of runs, while the kernel keeps statistics (sysctl kernel.bpf_stats_enabled). */
  readonly runTimeNs: bigint;
  readonly runCount: bigint;
}

const INFO_BYTES = 232;

/** A loaded program. Closing the handle lets the program go unless a link, a pin or a map still holds it. */
export class Program {
  readonly type: ProgramType;
  readonly name: string;
  /** The verifier's log, if the spec asked for it. */
  readonly log: string;
  readonly #descriptor: FileDescriptor;

  constructor(descriptor: FileDescriptor, type: ProgramType, name: string, log = '') {
    this.#descriptor = descriptor;
    this.type = type;
    this.name = name;
    this.log = log;
  }

  /**
   * Open a program that is pinned, such as by an earlier process.
   * @throws MapMismatchError when it is of another type; SystemError when nothing is pinned there
   */
  static open(path: string, type: ProgramType): Program {
    const descriptor = openPinned(path, 'program');
    try {
      const info = readProgramInfo(descriptor.number);
      if (info.type !== type) throw new MapMismatchError(`the program pinned at ${path} is ${info.type}, not ${type}`);
      return new Program(descriptor, type, info.name);
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /**
   * Open a program of anybody by its id, such as one that `queryNetdev` names.
   * @throws MapMismatchError when it is of another type; SystemError ENOENT when there is none
   */
  static byId(id: number, type: ProgramType): Program {
    const attributes = new Attributes(12);
    attributes.u32[0] = id;
    const command = COMMAND.PROG_GET_FD_BY_ID;
    const descriptor = new FileDescriptor(
      must(bpf(command, attributes, 12), command, `open the program with id ${id}`),
    );
    try {
      const info = readProgramInfo(descriptor.number);
      if (info.type !== type) throw new MapMismatchError(`the program with id ${id} is ${info.type}, not ${type}`);
      return new Program(descriptor, type, info.name);
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /** The descriptor. @throws ClosedError */
  get fd(): number {
    if (this.#descriptor.closed) throw new ClosedError(`program "${this.name}"`);
    return this.#descriptor.number;
  }

  get closed(): boolean {
    return this.#descriptor.closed;
  }

  /** Ask the kernel. @throws ClosedError, SystemError */
  info(): ProgramInfo {
    return readProgramInfo(this.fd);
  }

  /**
   * Run it once or often on data, and see what it makes of it (BPF_PROG_TEST_RUN, Linux 4.12).
   * @throws SystemError, such as EINVAL for data shorter than an Ethernet header
   */
  run(input: TestRunInput = {}): TestRun {
    return testRun(this.fd, this.name, input);
  }

  /**
   * Run an XDP program on frames that are then really sent, dropped or passed on as it says (Linux 5.18).
   * @throws UnsupportedError, SystemError
   */
  runLiveFrames(frames: LiveFrames): void {
    runLiveFrames(this.fd, this.name, frames);
  }

  /** Pin it to a path below a bpf file system. @throws SystemError */
  pin(path: string): void {
    pinObject(this.fd, path, `program "${this.name}"`);
  }

  /** Give the descriptor up: another thread of this process makes a handle of the number. @throws Error when it is closed */
  release(): number {
    return this.#descriptor.release();
  }

  close(): void {
    this.#descriptor.close();
  }
}

/** What the kernel says of the program behind a descriptor. @throws SystemError */
export function readProgramInfo(fd: number): ProgramInfo {
  const info = new NativeBlock(INFO_BYTES);
  const attributes = new Attributes(16);
  attributes.u32[0] = fd;
  attributes.u32[1] = INFO_BYTES;
  attributes.point(8, info);
  must(bpf(COMMAND.OBJ_GET_INFO_BY_FD, attributes, 16), COMMAND.OBJ_GET_INFO_BY_FD, 'ask about a program');
  return {
    type: programTypeName(info.u32[0]),
    id: info.u32[1],
    tag: Buffer.from(info.bytes.subarray(8, 16)).toString('hex'),
    jitedBytes: info.u32[4],
    translatedBytes: info.u32[5],
    loadTimeNs: info.view.getBigUint64(40, true),
    name: info.getString(64, 16),
    runTimeNs: info.view.getBigUint64(192, true),
    runCount: info.view.getBigUint64(200, true),
    verifiedInstructions: info.view.getUint32(216, true),
  };
}
