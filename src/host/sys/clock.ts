/**
 * Time. Seconds and nanoseconds travel as two numbers, because nanoseconds since 1970 do not fit a double.
 * Hot code keeps one {@link Clock} and reads its fields after `read`: nothing is allocated.
 */
import { bindLibc } from './libc.ts';
import { NativeBlock } from './memory.ts';

const gettimeCall = bindLibc<[number, number]>('int clock_gettime(int clock, intptr_t time)');
const getresCall = bindLibc<[number, number]>('int clock_getres(int clock, intptr_t time)');

/** Clock numbers of clock_gettime(2). */
export const ClockId = { REALTIME: 0, MONOTONIC: 1, MONOTONIC_COARSE: 6, BOOTTIME: 7 } as const;

/** One of the kernel's clocks. */
export class Clock {
  seconds = 0;
  nanoseconds = 0;
  readonly #id: number;
  readonly #time = new NativeBlock(16);

  /** @param id one of {@link ClockId} */
  constructor(id: number) {
    this.#id = id;
  }

  /** Read the clock into `seconds` and `nanoseconds`. */
  read(): void {
    gettimeCall(this.#id, this.#time.address);
    // The upper half of tv_sec is zero until 2106.
    this.seconds = this.#time.u32[secondsWord];
    this.nanoseconds = this.#time.u32[nanosecondsWord];
  }

  /** The step of the clock in nanoseconds: for coarse clocks, the time from tick to tick. */
  resolutionNs(): number {
    getresCall(this.#id, this.#time.address);
    return this.#time.u32[secondsWord] * 1e9 + this.#time.u32[nanosecondsWord];
  }

  /** The time as one number, exact to about a microsecond for wall clocks and a nanosecond for some 100 days of uptime. */
  milliseconds(): number {
    this.read();
    return this.seconds * 1000 + this.nanoseconds / 1e6;
  }
}

const bigEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 0;
const secondsWord = bigEndian ? 1 : 0;
const nanosecondsWord = bigEndian ? 3 : 2;
