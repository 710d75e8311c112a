/** The clock of everything on the datapath thread: CLOCK_MONOTONIC, which programs in the kernel count in, too. */

// Node's high resolution time is CLOCK_MONOTONIC; performance.now() runs with it and costs less.
const [seconds, nanoseconds] = process.hrtime();
const originMs = seconds * 1000 + nanoseconds / 1e6 - performance.now();

/** Milliseconds of CLOCK_MONOTONIC, with fractions. */
export function monotonicMs(): number {
  return originMs + performance.now();
}
