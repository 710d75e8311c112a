/** What a process costs while nothing happens: processor share over some seconds, and resident memory. */
import { readFileSync } from 'node:fs';
import { sleep } from '../shell.ts';

/** Processor share in per cent of one core, resident memory in bytes. */
export interface Idle {
  cpuPercent: number;
  residentBytes: number;
}

/** Watch a process and its threads for the given time. */
export async function measureIdle(pid: number, durationSeconds: number): Promise<Idle> {
  const ticks = (): number => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  const before = ticks();
  await sleep(durationSeconds * 1_000);
  const used = (ticks() - before) / 100;
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const resident = /VmRSS:\s+(\d+) kB/.exec(status);
  return { cpuPercent: (used / durationSeconds) * 100, residentBytes: Number(resident?.[1] ?? 0) * 1024 };
}
