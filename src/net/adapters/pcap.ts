/**
 * PcapAdapter: a port whose wire is a capture file. It receives the frames of one capture, as fast as it is asked or at the speed of
 * the recording, and writes what is transmitted to another, as pcapng. Either side may be absent. The formats are in ../capture/.
 */
import {
  type Adapter,
  type AdapterCounters,
  newCounters,
  Refusal,
  type RefusalListener,
  TagAction,
} from '../adapter.ts';
import type { Batch } from '../batch.ts';
import { CaptureError } from '../capture/error.ts';
import { type ByteSink, type ByteSource, NOTHING_YET } from '../capture/file.ts';
import { PcapngWriter } from '../capture/pcapng-writer.ts';
import { CaptureReader } from '../capture/reader.ts';
import { type CapturePacket, type CaptureTime, Direction, LinkType } from '../capture/types.ts';
import { copyPacket } from '../copy.ts';
import { exceedsMtu } from '../mtu.ts';
import type { Packet } from '../packet.ts';
import { PacketPool } from '../pool.ts';
import { restoreSuperPacket } from '../super-packet.ts';
import { applyTagAction, TagResult } from '../vlan.ts';
import { RecordingClock } from './recording-clock.ts';
import { type AdapterSettings, bufferSettings, macAddressFromName } from './settings.ts';

export interface PcapAdapterSettings extends AdapterSettings {
  /** The capture to receive from; the adapter closes it. Nothing is received without one. */
  input?: ByteSource;
  /** Opens where to write what is transmitted, once the input has been found good; the adapter closes it. Without one, frames are counted only. */
  openOutput?: () => ByteSink;
  /** Milliseconds since 1970 with their fraction; the system's clock by default. */
  nowMs?: () => number;
  /** 1 for the speed of the recording, 2 for twice as fast; by default frames come as fast as they are asked for. */
  speed?: number;
  /** Cut what is written to this; whole frames by default. */
  snapLengthBytes?: number;
  /** Buffers for frames on their way; 256 by default. */
  poolPackets?: number;
}

const CHUNK_BYTES = 64 * 1024;
/** Most chunks that are read in one call: what a file has between its frames must not hold up other ports. */
const CHUNKS_AT_ONCE = 16;
/** How long a pipe that has nothing yet is left alone. */
const PIPE_REST_MS = 5;

function systemNowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** An adapter between capture files. By default it takes no offloads, so that the frames it writes are complete. */
export class PcapAdapter implements Adapter {
  readonly name: string;
  readonly kind = 'pcap';
  readonly macAddress: Uint8Array;
  readonly mtuBytes: number;
  readonly offloads: number;
  readonly fileDescriptor = -1;
  readonly counters: AdapterCounters = newCounters();
  onRefused: RefusalListener | null = null;
  /** What ended reading or writing early: a broken capture, a full disk. */
  failure: Error | null = null;

  readonly #pool: PacketPool;
  readonly #nowMs: () => number;
  readonly #speed: number;
  readonly #reader = new CaptureReader();
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  readonly #now: CaptureTime = { seconds: 0, nanoseconds: 0 };
  #input: ByteSource | null;
  #output: ByteSink | null = null;
  #writer: PcapngWriter | null = null;
  #outputFailed = false;
  /** The next frame, read ahead; with an input and without it, reading goes on at the next call. */
  #ahead: CapturePacket | null = null;
  readonly #recording: RecordingClock;
  #isPlaying = false;
  #chunksLeft = CHUNKS_AT_ONCE;
  /** When the next frame, or the next look for it, is due by the clock; 0 for at once. */
  #dueMs = 0;

  /**
   * @throws CaptureError when the input is no capture, or not of Ethernet; RangeError for a speed that is none
   * @throws the error of the input or the output
   */
  constructor(settings: PcapAdapterSettings) {
    this.name = settings.name;
    this.macAddress = settings.macAddress ?? macAddressFromName(settings.name);
    this.mtuBytes = settings.mtuBytes ?? 1500;
    this.offloads = settings.offloads ?? 0;
    this.#nowMs = settings.nowMs ?? systemNowMs;
    this.#speed = settings.speed ?? 0;
    if (!(this.#speed >= 0 && this.#speed < Number.POSITIVE_INFINITY)) {
      throw new RangeError(`speed ${this.#speed} is no positive number`);
    }
    this.#recording = new RecordingClock(this.#speed);
    this.#input = settings.input ?? null;
    // Captures hold super-packets whatever the output takes.
    const buffers = bufferSettings(65_535, 0);
    this.#pool = new PacketPool({ packets: settings.poolPackets ?? 256, ...buffers });
    try {
      this.#readAhead();
      if (this.failure !== null) throw this.failure;
      this.#startOutput(settings.openOutput?.() ?? null, settings.snapLengthBytes ?? 0);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Whether everything in the input has been received. */
  get finished(): boolean {
    return this.#ahead === null && this.#input === null;
  }

  /**
   * When there is something to do again, by the clock: at once (0) for a frame that does not wait for its time, a moment later for a pipe
   * that has nothing yet; null when everything has been received.
   */
  get nextDueMs(): number | null {
    return this.finished ? null : this.#dueMs;
  }

  receive(batch: Batch, limit: number): number {
    if (this.finished) return 0;
    const nowMs = this.#nowMs();
    if (this.#dueMs > nowMs) return 0;
    this.#chunksLeft = CHUNKS_AT_ONCE;
    if (this.#ahead === null) this.#readAhead();
    if (!this.#isPlaying && this.#ahead !== null) {
      this.#isPlaying = true;
      this.#recording.start(nowMs);
      this.#recording.next(this.#ahead);
    }
    let count = 0;
    while (count < limit && this.#ahead !== null && this.#dueMs <= nowMs) {
      if (this.#ahead.data.length > this.#pool.maxFrameBytes) {
        this.counters.receiveDropped += 1;
      } else {
        const packet = this.#pool.allocate();
        // The frame waits until somebody releases a packet.
        if (packet === null) break;
        const { data } = this.#ahead;
        packet.bytes.set(data, packet.offset);
        packet.length = data.length;
        packet.timestampSeconds = this.#ahead.seconds;
        packet.timestampNanoseconds = this.#ahead.nanoseconds;
        if (exceedsMtu(packet, this.mtuBytes)) restoreSuperPacket(packet, this.mtuBytes);
        batch.push(packet);
        this.counters.receivedPackets += 1;
        this.counters.receivedBytes += data.length;
        count += 1;
      }
      this.#readAhead();
    }
    return count;
  }

  transmit(packet: Packet, tag: number): void {
    if (tag === TagAction.KEEP) {
      this.#write(packet);
      return;
    }
    const copy = copyPacket(packet, this.#pool);
    if (copy === null) {
      this.#refuse(Refusal.QUEUE_FULL, packet);
      return;
    }
    if (applyTagAction(copy, tag) === TagResult.DONE) this.#write(copy);
    else this.#refuse(Refusal.REJECTED, packet);
    copy.release();
  }

  #refuse(refusal: number, packet: Packet): void {
    this.counters.transmitDropped += 1;
    this.onRefused?.(refusal, 1, packet.length);
  }

  flush(): void {
    this.#flushOutput();
  }

  close(): void {
    this.#flushOutput();
    this.#closeInput();
    this.#closeOutput();
  }

  #write(packet: Packet): void {
    if (exceedsMtu(packet, this.mtuBytes)) {
      this.#refuse(Refusal.TOO_LONG, packet);
      return;
    }
    if (this.#writer !== null) {
      const nowMs = this.#nowMs();
      const seconds = Math.floor(nowMs / 1000);
      this.#now.seconds = seconds;
      this.#now.nanoseconds = Math.min(999_999_999, Math.floor((nowMs - seconds * 1000) * 1e6));
      try {
        this.#writer.frame(0, packet, this.#now, Direction.OUTBOUND);
      } catch (error) {
        this.#failOutput(error);
      }
    }
    if (this.#outputFailed) {
      this.#refuse(Refusal.DOWN, packet);
      return;
    }
    this.counters.transmittedPackets += 1;
    this.counters.transmittedBytes += packet.length;
  }

  #startOutput(output: ByteSink | null, snapLengthBytes: number): void {
    this.#output = output;
    if (output === null) return;
    this.#writer = new PcapngWriter((chunk) => output.write(chunk), { application: 'millrace' });
    this.#writer.addInterface({ name: this.name, snapLengthBytes, macAddress: this.macAddress });
    this.#writer.flush();
  }

  #flushOutput(): void {
    try {
      this.#writer?.flush();
    } catch (error) {
      this.#failOutput(error);
    }
  }

  /** Writing is over; the reason is kept, and what comes is counted as dropped. */
  #failOutput(error: unknown): void {
    this.failure = error instanceof Error ? error : new Error(String(error));
    this.#outputFailed = true;
    this.#closeOutput();
  }

  #closeOutput(): void {
    const output = this.#output;
    this.#output = null;
    this.#writer = null;
    output?.close();
  }

  #closeInput(): void {
    const input = this.#input;
    this.#input = null;
    this.#ahead = null;
    input?.close();
  }

  /** Read on to the next Ethernet frame, or as far as can be read now. A capture that breaks off ends the input, and the reason is kept. */
  #readAhead(): void {
    this.#ahead = null;
    this.#dueMs = 0;
    try {
      while (this.#input !== null) {
        const record = this.#reader.next();
        if (record === null) {
          if (this.#chunksLeft === 0) return;
          this.#chunksLeft -= 1;
          if (!this.#readChunk(this.#input)) return;
        } else if (record.kind === 'packet') {
          if (record.packet.interface.linkType === LinkType.ETHERNET) {
            this.#ahead = record.packet;
            // The first frame comes as soon as it is asked for.
            if (this.#isPlaying && this.#speed !== 0) this.#dueMs = this.#recording.next(record.packet);
            return;
          }
          this.counters.receiveDropped += 1;
        } else if (record.kind === 'interface' && record.interface.index === 0) {
          this.#checkLinkType(record.interface.linkType);
        }
      }
    } catch (error) {
      this.failure = error instanceof Error ? error : new Error(String(error));
      this.#closeInput();
    }
  }

  /** @returns whether there was one */
  #readChunk(input: ByteSource): boolean {
    const length = input.read(this.#chunk);
    if (length === NOTHING_YET) {
      this.#dueMs = this.#nowMs() + PIPE_REST_MS;
      return false;
    }
    if (length === 0) {
      this.#reader.end();
      this.#closeInput();
      return false;
    }
    this.#reader.push(this.#chunk.subarray(0, length));
    return true;
  }

  #checkLinkType(linkType: number): void {
    if (linkType === LinkType.ETHERNET) return;
    throw new CaptureError(`the capture's link type is ${linkType}, and a port needs Ethernet (${LinkType.ETHERNET})`);
  }
}
