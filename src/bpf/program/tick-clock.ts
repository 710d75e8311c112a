/**
 * The time for programs that ask with every packet. Reading a clock is a call of some twenty nanoseconds; `jiffies64` is one load from
 * memory. The kernel counts jiffies by CLOCK_MONOTONIC, one for each tick, so a factor and an offset that are found once
 * turn them into its nanoseconds for good.
 */
import { Clock, ClockId } from '../../host/sys/index.ts';
import { ProgramBuilder } from '../asm/builder.ts';
import { at, R0, R1, R2 } from '../asm/operands.ts';
import { haveHelper } from '../feature/raw.ts';
import { ArrayMap } from '../map/array.ts';
import { u64 } from '../map/layout.ts';
import { TC } from '../uapi/kinds.ts';
import { loadProgram } from './load.ts';

/** How jiffies become nanoseconds of CLOCK_MONOTONIC: `jiffies * tickNs + offsetNs`, as of the last tick. */
export interface TickClock {
  readonly tickNs: number;
  /** Modulo 2^64. */
  readonly offsetNs: bigint;
}

/** Kernels are built with 24 to 1,200 ticks a second (kernel/Kconfig.hz and arch). */
const TICK_NS = { least: 1e9 / 1200, most: 1e9 / 24 } as const;
/** A tick between the reading of both clocks makes them be read again. */
const ATTEMPTS = 20;
/** bpf_prog_test_run wants an Ethernet header at least. */
const FRAME_BYTES = 14;

/**
 * Find out how this kernel's jiffies and CLOCK_MONOTONIC belong together.
 * @returns null where programs cannot ask for jiffies (before Linux 5.6)
 * @throws SystemError, PrivilegeError
 */
export function tickClock(): TickClock | null {
  if (!haveHelper('sched_cls', 'jiffies64')) return null;
  const coarse = new Clock(ClockId.MONOTONIC_COARSE);
  const tickNs = coarse.resolutionNs();
  if (!(tickNs >= TICK_NS.least && tickNs <= TICK_NS.most)) return null;
  const readNs = () => {
    coarse.read();
    return BigInt(coarse.seconds) * 1_000_000_000n + BigInt(coarse.nanoseconds);
  };
  const told = ArrayMap.create({ name: 'jiffies', value: u64, maxEntries: 1 });
  const program = loadJiffies(told);
  try {
    const data = new Uint8Array(FRAME_BYTES);
    for (let i = 0; i < ATTEMPTS; i += 1) {
      const nowNs = readNs();
      program.run({ data });
      const jiffies = told.get(0);
      if (jiffies === undefined || readNs() !== nowNs) continue;
      return { tickNs, offsetNs: BigInt.asUintN(64, nowNs - jiffies * BigInt(tickNs)) };
    }
    return null;
  } finally {
    program.close();
    told.close();
  }
}

/** A program that tells what the count is. */
function loadJiffies(told: ArrayMap<bigint>) {
  const b = new ProgramBuilder('jiffies');
  b.callHelper('jiffies64');
  b.loadMapValue(R2, told);
  b.store('u64', at(R2), R0);
  b.return(TC.OK);
  return loadProgram({ type: 'sched_cls', code: b });
}

/** R0 becomes the time in nanoseconds of CLOCK_MONOTONIC as of the last tick. R1 to R5 are lost. */
export function emitTickTime(b: ProgramBuilder, { tickNs, offsetNs }: TickClock): void {
  b.callHelper('jiffies64');
  b.mul(R0, tickNs);
  b.load64(R1, offsetNs);
  b.add(R0, R1);
}
