/**
 * What a daemon holds, counted from outside: by /proc for the process, by what it has left in its folder and in the namespaces of its world,
 * and, on a machine that nobody else uses, by the kernel's lists of eBPF programs, maps and links.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { linkIds, mapIds, programIds } from '../../src/bpf/index.ts';
import { must, type World } from '../daemon-world.ts';

/** Counts by name. */
export type Census = Readonly<Record<string, number>>;

/** How much of something there may be more in the end: a share of what there was, and so many on top. */
interface Allowance {
  readonly share: number;
  readonly more: number;
}

/** What may grow at all. V8 and the C library keep memory that was used once, in pieces of their own size. */
const ALLOWANCES: Readonly<Record<string, Allowance>> = {
  'resident memory, MB': { share: 0.15, more: 30 },
  'mappings in all': { share: 0.25, more: 100 },
};

/** @returns the most that there may be of something in the end */
export function allowed(name: string, before: number): number {
  const { share, more } = ALLOWANCES[name] ?? { share: 0, more: 0 };
  return Math.round(before * (1 + share) + more);
}

/**
 * Count.
 * @param isAlone nobody else on this machine makes eBPF objects: those of the whole system count, too
 */
export function takeCensus(world: World, pid: number, isAlone: boolean): Census {
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').trim().split('\n');
  const [, resident = '0'] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  const held = { descriptors: 0, map: 0, prog: 0, link: 0, namespaces: 0 };
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    held.descriptors += 1;
    const target = link(`/proc/${pid}/fd/${fd}`);
    if (target.startsWith('net:')) held.namespaces += 1;
    const [, kind] = /^anon_inode:bpf[-_](map|prog|link)/.exec(target) ?? [];
    if (kind === 'map' || kind === 'prog' || kind === 'link') held[kind] += 1;
  }
  const mountLines = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n');
  const system: Census = isAlone
    ? {
        'eBPF programs of the system': count(programIds()),
        'eBPF maps of the system': count(mapIds()),
        'eBPF links of the system': count(linkIds()),
        'interfaces of the first namespace': must('ip', '-o', 'link').trim().split('\n').length,
        'namespaces of the system': must('ip', 'netns', 'list').trim().split('\n').length,
      }
    : {};
  return {
    'resident memory, MB': Math.round(Number(resident) / 1024),
    'mappings in all': maps.length,
    'mappings of eBPF maps': maps.filter((line) => line.includes('bpf')).length,
    'mappings of sockets': maps.filter((line) => line.includes('socket:')).length,
    descriptors: held.descriptors,
    'eBPF maps held': held.map,
    'eBPF programs held': held.prog,
    'eBPF links held': held.link,
    'network namespaces held': held.namespaces,
    threads: readdirSync(`/proc/${pid}/task`).length,
    mounts: mountLines.filter((line) => line.includes(world.folder)).length,
    pins: pinsIn(world),
    'files in its folder': readdirSync(world.folder).length,
    'interfaces of its namespace': must('ip', '-n', world.middle, '-o', 'link').trim().split('\n').length,
    ...system,
  };
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function count(items: Iterable<unknown>): number {
  let found = 0;
  for (const _ of items) found += 1;
  return found;
}

/** Pins are seen where the daemon runs. */
function pinsIn(world: World): number {
  return Number(world.beside('sh', '-c', `find ${world.socket}.bpf -type f 2>/dev/null | wc -l`));
}

/** One line of the result. */
export interface Finding {
  readonly what: string;
  readonly before: number;
  readonly after: number;
  readonly allowed: number;
  readonly hasGrown: boolean;
}

/** What has become more. */
export function compare(before: Census, after: Census): Finding[] {
  return Object.entries(before).map(([what, was]) => {
    const is = after[what] ?? 0;
    const most = allowed(what, was);
    return { what, before: was, after: is, allowed: most, hasGrown: is > most };
  });
}
