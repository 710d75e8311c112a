/** Measures of the machine: CPUs, for per-CPU values and perf buffers, and the page, for mappings. */
import { readFileSync } from 'node:fs';
import { bindLibc } from '../../host/sys/index.ts';

/**
 * Read a list of CPUs as the kernel writes it: `0-3,8`.
 * @returns the numbers, ascending
 */
export function parseCpuList(text: string): number[] {
  const cpus: number[] = [];
  for (const part of text.trim().split(',')) {
    const [first = '', last = first] = part.split('-');
    if (first === '') continue;
    for (let cpu = Number(first); cpu <= Number(last); cpu++) cpus.push(cpu);
  }
  return cpus;
}

let possible: number | undefined;

/** The number of possible CPUs: one more than the highest. */
export function possibleCpus(): number {
  possible ??= 1 + Math.max(...parseCpuList(readFileSync('/sys/devices/system/cpu/possible', 'utf8')));
  return possible;
}

/** The CPUs that run now. */
export function onlineCpus(): number[] {
  return parseCpuList(readFileSync('/sys/devices/system/cpu/online', 'utf8'));
}

const sysconf = bindLibc<[number]>('long sysconf(int name)');
const SC_PAGESIZE = 30;

let page: number | undefined;

/** The size of a page of memory. */
export function pageBytes(): number {
  page ??= sysconf(SC_PAGESIZE);
  return page;
}
