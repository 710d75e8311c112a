/**
 * Reading a perf event array: a ring for each CPU, of samples that `perf_event_output` wrote and of notes about samples that were lost.
 * Neighbours: map/ring.ts is the map, sys/bpf.ts opens the events.
 *
 *     page 0     data_head at 1024 (the kernel's), data_tail at 1032 (ours)
 *     page 1 on  the data; a record may run over the end and go on at the start
 *
 *     record     type:32 misc:16 size:16, then a sample (length:32, data) or a loss (id:64, count:64)
 */
import {
  Epoll,
  EpollEvent,
  FileDescriptor,
  ioctlNumber,
  type Mapping,
  mmap,
  SystemError,
} from '../../host/sys/index.ts';
import { ClosedError, LayoutError, PrivilegeError } from '../errors.ts';
import type { PerfEventArrayMap } from '../map/ring.ts';
import { Attributes, Errno, perfEventOpen } from '../sys/bpf.ts';
import { onlineCpus, pageBytes } from '../sys/machine.ts';
import { READ_LIMIT } from './ring-buffer.ts';

/** Byte offsets and values of struct perf_event_attr (linux/perf_event.h). */
const ATTR = { type: 0, size: 4, config: 8, sampleType: 24, wakeupEvents: 48, bytes: 64 } as const;
const PERF_TYPE_SOFTWARE = 1;
const PERF_COUNT_SW_BPF_OUTPUT = 10;
const PERF_SAMPLE_RAW = 1 << 10;
const PERF_EVENT_IOC_ENABLE = 0x2400;
const RECORD_LOST = 2;
const RECORD_SAMPLE = 9;
const HEADER_BYTES = 8;
const HEAD_WORD = 1024 / 4;
const TAIL_LONG = 1032 / 8;

/**
 * Takes a sample. It lies in `bytes` from `offset` on, until the handler returns. `lengthBytes` may be a few more than were sent: the kernel
 * pads a sample to eight bytes with its length field.
 */
export type SampleHandler = (bytes: Uint8Array, offset: number, lengthBytes: number, cpu: number) => void;

/** How to read. */
export interface PerfBufferOptions {
  /** Size of each CPU's buffer: a power of two of pages. 64 KiB by default. */
  readonly bytesPerCpu?: number;
  /** Wake up after so many samples; 1 by default. */
  readonly wakeupSamples?: number;
}

/** One CPU's buffer. */
class CpuBuffer {
  readonly cpu: number;
  readonly event: FileDescriptor;
  lost = 0;
  readonly #mapping: Mapping;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #head: Int32Array;
  readonly #tail: BigInt64Array;
  readonly #scratch: Uint8Array;
  readonly #mask: number;
  #position: number;
  #wide: bigint;

  constructor(cpu: number, event: FileDescriptor, bytes: number) {
    const page = pageBytes();
    this.#mapping = mmap(event.number, page + bytes, { doing: `map the perf buffer of CPU ${cpu}` });
    const { buffer: mapping } = this.#mapping;
    this.cpu = cpu;
    this.event = event;
    this.#bytes = new Uint8Array(mapping, page, bytes);
    this.#view = new DataView(mapping, page, bytes);
    this.#head = new Int32Array(mapping, 0, page / 4);
    this.#tail = new BigInt64Array(mapping, 0, page / 8);
    this.#scratch = new Uint8Array(65536);
    this.#mask = bytes - 1;
    this.#wide = Atomics.load(this.#tail, TAIL_LONG);
    this.#position = Number(BigInt.asUintN(32, this.#wide));
  }

  /** @returns how many of the samples that are there now were handed over, at most so many */
  read(handler: SampleHandler, limit: number): number {
    const mask = this.#mask;
    const head = Atomics.load(this.#head, HEAD_WORD) >>> 0;
    let position = this.#position;
    let taken = 0;
    try {
      while (taken < limit && position !== head) {
        const start = position & mask;
        // Records are multiples of eight bytes, so a header is never cut.
        const type = this.#view.getUint32(start, true);
        const size = this.#view.getUint16(start + 6, true);
        if (size < HEADER_BYTES) throw new LayoutError(`a perf record of ${size} bytes on CPU ${this.cpu}`);
        position = (position + size) >>> 0;
        if (type === RECORD_SAMPLE) {
          taken++;
          this.#sample(start, size, handler);
        } else if (type === RECORD_LOST) {
          this.lost += this.#view.getUint32((start + 16) & mask, true);
        }
      }
    } finally {
      this.#giveBack(position);
    }
    return taken;
  }

  close(): void {
    this.#mapping.unmap();
    this.event.close();
  }

  #sample(start: number, size: number, handler: SampleHandler): void {
    const lengthAt = (start + HEADER_BYTES) & this.#mask;
    const length = Math.min(this.#view.getUint32(lengthAt, true), size - HEADER_BYTES - 4);
    const dataAt = (lengthAt + 4) & this.#mask;
    const room = this.#bytes.length - dataAt;
    if (length <= room) {
      handler(this.#bytes, dataAt, length, this.cpu);
      return;
    }
    this.#scratch.set(this.#bytes.subarray(dataAt), 0);
    this.#scratch.set(this.#bytes.subarray(0, length - room), room);
    handler(this.#scratch, 0, length, this.cpu);
  }

  #giveBack(position: number): void {
    this.#wide += BigInt((position - this.#position) >>> 0);
    this.#position = position;
    Atomics.store(this.#tail, TAIL_LONG, this.#wide);
  }
}

/** Reads a perf event array on all CPUs that are online. */
export class PerfBufferReader {
  readonly #buffers: CpuBuffer[] = [];
  readonly #epoll: Epoll;
  readonly #map: PerfEventArrayMap;
  /** Where the next reading begins. */
  #first = 0;
  #closed = false;

  /**
   * Open an event on every CPU and put it into the map.
   * @throws LayoutError for a size that is no power of two of pages; PrivilegeError, SystemError
   */
  constructor(map: PerfEventArrayMap, options: PerfBufferOptions = {}) {
    const bytes = options.bytesPerCpu ?? 65536;
    if (bytes < pageBytes() || !Number.isInteger(Math.log2(bytes))) {
      throw new LayoutError(`a perf buffer of ${bytes} bytes: it must be a power of two, and a page at least`);
    }
    this.#map = map;
    this.#epoll = new Epoll();
    try {
      for (const cpu of onlineCpus()) {
        const event = openEvent(cpu, options.wakeupSamples ?? 1);
        try {
          this.#buffers.push(new CpuBuffer(cpu, event, bytes));
        } catch (error) {
          event.close();
          throw error;
        }
        map.set(cpu, event.number);
        ioctlNumber(event.number, PERF_EVENT_IOC_ENABLE, 0, `enable the perf event of CPU ${cpu}`);
        this.#epoll.add(event.number, EpollEvent.IN);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** For epoll or poll: readable when a sample is there on any CPU. */
  get fd(): number {
    return this.#epoll.descriptor.number;
  }

  /** Samples that found no room, as far as the kernel has told: it does so with the next sample that finds some. */
  get lost(): number {
    return this.#buffers.reduce((sum, buffer) => sum + buffer.lost, 0);
  }

  /**
   * Hand over the samples that are there, CPU by CPU: what is written meanwhile waits for the next call.
   * @param limit the most to take; 65,536 by default. The next call begins with the CPU at which this one stopped
   * @returns how many; as many as the limit when there may be more
   * @throws ClosedError, LayoutError for a buffer that is damaged, and what the handler throws, after the sample it threw at
   */
  read(handler: SampleHandler, limit = READ_LIMIT): number {
    if (this.#closed) throw new ClosedError(`reader of perf event array "${this.#map.name}"`);
    const buffers = this.#buffers;
    let taken = 0;
    for (let turn = 0; turn < buffers.length; turn += 1) {
      taken += buffers[this.#first].read(handler, limit - taken);
      if (taken >= limit) break;
      this.#first = (this.#first + 1) % buffers.length;
    }
    return taken;
  }

  /** Block this thread until a sample may be there. @returns false when the time is over */
  wait(timeoutMs: number): boolean {
    return this.#epoll.wait(timeoutMs) > 0;
  }

  /** Close the events, and give the memory back; the map then carries nothing. Closing twice is harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const buffer of this.#buffers) {
      // The map holds the event too.
      if (!this.#map.closed) this.#map.delete(buffer.cpu);
      buffer.close();
    }
    this.#epoll.close();
  }
}

function openEvent(cpu: number, wakeupSamples: number): FileDescriptor {
  const attributes = new Attributes(ATTR.bytes);
  attributes.u32[ATTR.type / 4] = PERF_TYPE_SOFTWARE;
  attributes.u32[ATTR.size / 4] = ATTR.bytes;
  attributes.u32[ATTR.config / 4] = PERF_COUNT_SW_BPF_OUTPUT;
  attributes.u32[ATTR.sampleType / 4] = PERF_SAMPLE_RAW;
  attributes.u32[ATTR.wakeupEvents / 4] = wakeupSamples;
  const result = perfEventOpen(attributes, cpu);
  if (result >= 0) return new FileDescriptor(result);
  const doing = `open a perf event on CPU ${cpu}`;
  if (result === -Errno.EPERM || result === -Errno.EACCES) throw new PrivilegeError(doing, -result, 'CAP_PERFMON');
  throw new SystemError('perf_event_open', -result, doing);
}
