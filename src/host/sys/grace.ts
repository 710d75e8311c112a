/**
 * Short waits for the kernel's grace periods. Attaching or detaching a program and closing a packet socket end with the kernel waiting until no
 * CPU can still be using what went before: some 10 ms each, while it holds the lock of all interfaces, so that calls side by side wait one after
 * the other. The kernel knows a quicker way, which asks each CPU at once instead of waiting for its next tick (`rcu_expedited`), and takes it for
 * calls that begin while the switch for it is on: tens of microseconds.
 */
import { readFileSync } from 'node:fs';
import type { FileDescriptor } from './descriptor.ts';
import { SystemError } from './errors.ts';
import { Open, open, read, write } from './files.ts';
import { bindLibc } from './libc.ts';

const SWITCH = '/sys/kernel/rcu_expedited';
const ON = Uint8Array.of(0x31);
const OFF = Uint8Array.of(0x30);

/** How often the switch is looked at that others may turn on just then. */
const LOOKS = 20;

/** Calls of this thread that are being hurried. */
let depth = 0;

/**
 * Make calls that end with a grace period, quickly where the machine lets us say so: not where /sys is read-only, and not where its owner has
 * forbidden it (`rcu_normal`). The switch is put back at once, as it concerns the whole machine; one that was on stays on.
 * @returns what `work` returns
 * @throws what `work` throws
 */
export function hurried<T>(work: () => T): T {
  const control = depth === 0 ? turnOn() : null;
  depth += 1;
  try {
    return work();
  } finally {
    depth -= 1;
    if (control !== null) turnOff(control);
  }
}

/** Whether grace periods take their time as long as nobody hurries: whoever finds that at first has to leave it so. */
export function isUnhurried(): boolean {
  try {
    // Whoever else hurries does so for moments.
    for (let look = 0; look < LOOKS; look += 1) if (readFileSync(SWITCH, 'utf8').trim() === '0') return true;
    return false;
  } catch {
    return false;
  }
}

/** Put the switch back for a process that was killed while it hurried. Another that hurries just now only waits a little longer. */
export function putGraceBack(): void {
  try {
    const control = open(SWITCH, Open.RDWR);
    try {
      write(control.number, OFF);
    } finally {
      control.close();
    }
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}

/** @returns the switch, to be turned off again; null when there is none, or it is on already */
function turnOn(): FileDescriptor | null {
  let control: FileDescriptor;
  try {
    control = open(SWITCH, Open.RDWR);
  } catch (error) {
    if (error instanceof SystemError) return null;
    throw error;
  }
  try {
    const state = new Uint8Array(2);
    if (read(control.number, state) > 0 && state[0] === OFF[0] && write(control.number, ON) > 0) return control;
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
  control.close();
  return null;
}

function turnOff(control: FileDescriptor): void {
  try {
    write(control.number, OFF, `put ${SWITCH} back`);
  } finally {
    control.close();
  }
}

interface AsyncCall {
  async(...args: [number, number, number, number, (failure: unknown, result: number) => void]): void;
}
const membarrier = bindLibc<[number, number, number, number]>(
  'long syscall(long number, int command, unsigned int flags, int cpu)',
) as unknown as AsyncCall;
const MEMBARRIER: Readonly<Record<string, number>> = { x64: 324, arm64: 283, riscv64: 283, s390x: 356, ppc64: 365 };
const MEMBARRIER_CMD_GLOBAL = 1;

/**
 * Wait aside until everything that the kernel was about to do with packets on any CPU has ended: runs of eBPF programs that had begun, and what
 * they redirect. This thread goes on, and hears of it in a turn of Node's loop. It is hurried as in {@link hurried}: tens of microseconds, or some
 * 10 ms where that is not allowed.
 * @param ended called with false when it cannot be told, as on kernels that leave CPUs without ticks to programs (nohz_full)
 */
export function gracePeriod(ended: (isTold: boolean) => void): void {
  const control = turnOn();
  membarrier.async(MEMBARRIER[process.arch] ?? -1, MEMBARRIER_CMD_GLOBAL, 0, 0, (failure, result) => {
    if (control !== null) turnOff(control);
    ended(failure === null && result === 0);
  });
}
