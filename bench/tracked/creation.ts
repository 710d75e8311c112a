/**
 * New connections a second, each of one packet that nobody answers: datagrams, and TCP segments with SYN, with and without translation of the source address. Connections are ended, new ones come faster
 * than anybody makes them, and what the table gains is counted from the first ones until most are there.
 */

import type { Pace } from '../forward.ts';
import { FirstPackets, type FirstProtocol, SOURCE_PORTS } from '../measure/first-packets.ts';
import { NotAvailable } from '../peers/peer.ts';
import { progress, sleep } from '../shell.ts';
import { median } from '../statistics.ts';
import { TwoHosts } from '../two-host.ts';
import { type Firewall, MillraceFirewall, NftablesFirewall, UserspaceFirewall } from './firewalls.ts';

/** What is made. */
export const KINDS = ['udp', 'tcp', 'udp-nat', 'tcp-nat'] as const;
export type Kind = (typeof KINDS)[number];

/** Connections a second by who makes them; absent where it could not be measured, with the reason in `notAvailable`. */
export interface CreationFigures {
  readonly perSecond: Readonly<Record<string, Readonly<Partial<Record<Kind, number>>>>>;
  readonly notAvailable: Readonly<Record<string, string>>;
}

const OFFERED_PPS = 400_000;
/** Connections that there is room for in Millrace's table, which keeps a part of it free for zones with few. */
const ROOM = 131_072;
/** Counted from here: what comes first pays for what is done once. */
const FIRST = 1000;
const ENOUGH = 58_000;
/** The first fill of a run is not counted. */
const FILLS = 3;
const TIME_OUT_MS = 15_000;
const PORT = 9;

/** Measure all, in turns. */
export async function benchCreation(pace: Pace): Promise<CreationFigures> {
  const samples = new Map<string, Map<Kind, number[]>>();
  const notAvailable: Record<string, string> = {};
  for (let round = 0; round < pace.rounds; round += 1) {
    const firewalls = [
      new UserspaceFirewall(),
      new MillraceFirewall('off', ROOM),
      new MillraceFirewall('tc', ROOM),
      new NftablesFirewall(),
    ];
    for (const firewall of firewalls) {
      if (firewall.id in notAvailable) continue;
      progress(`round ${round + 1} of ${pace.rounds}: new connections, ${firewall.title}`);
      try {
        const own = samples.get(firewall.id) ?? new Map<Kind, number[]>();
        samples.set(firewall.id, own);
        for (const [kind, rate] of await measure(firewall, round)) own.set(kind, [...(own.get(kind) ?? []), rate]);
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        notAvailable[firewall.id] = error instanceof NotAvailable ? text : `failed: ${text}`;
        progress(`  ${firewall.title}: ${notAvailable[firewall.id]}`);
      }
    }
  }
  const perSecond = Object.fromEntries(
    [...samples].map(([id, own]) => [id, Object.fromEntries([...own].map(([kind, rates]) => [kind, median(rates)]))]),
  );
  return { perSecond, notAvailable };
}

async function measure(firewall: Firewall, round: number): Promise<Map<Kind, number>> {
  const hosts = new TwoHosts(`n${round}`);
  const rates = new Map<Kind, number>();
  try {
    hosts.create();
    await firewall.start(hosts);
    hosts.inside(hosts.middle, 'ethtool', ['-K', 'sa', 'gro', 'on']);
    for (const kind of KINDS) {
      const [protocol, isTranslated] = [kind.slice(0, 3) as FirstProtocol, kind.endsWith('-nat')];
      firewall.rule(isTranslated);
      const sender = new FirstPackets(hosts, protocol, { ...firewall.traffic, destinationPort: PORT });
      try {
        const fills: number[] = [];
        for (let fill = 0; fill <= FILLS; fill += 1) fills.push(await filled(firewall, sender));
        rates.set(kind, median(fills.slice(1)));
        progress(`  ${kind}: ${fills.map((rate) => Math.round(rate)).join(', ')} connections/s`);
      } finally {
        sender.close();
      }
    }
    return rates;
  } finally {
    await firewall.stop(hosts).catch((error: unknown) => progress(`  stopping ${firewall.title}: ${String(error)}`));
    hosts.destroy();
  }
}

/** Fill an empty table. @returns what it gains in a second */
async function filled(firewall: Firewall, sender: FirstPackets): Promise<number> {
  await firewall.flush();
  let isOver = false;
  const sending = sender.send(Number.POSITIVE_INFINITY, OFFERED_PPS, () => !isOver);
  sending.catch(() => undefined);
  try {
    return await growth(firewall);
  } finally {
    isOver = true;
    await sending;
  }
}

async function growth(firewall: Firewall): Promise<number> {
  const deadline = performance.now() + TIME_OUT_MS;
  let [firstMs, first, lastMs, last] = [0, 0, 0, 0];
  while (performance.now() < deadline && last < ENOUGH) {
    const before = performance.now();
    const count = await firewall.connections();
    const nowMs = (before + performance.now()) / 2;
    // Beyond that there are none to come: a count above it says less than the one before, if there was one.
    if (count > ENOUGH && last > first) break;
    if (count >= FIRST) {
      if (first === 0) [first, firstMs] = [count, nowMs];
      [last, lastMs] = [count, nowMs];
    }
    await sleep(5);
  }
  if (last <= first) throw new Error(`only ${last} of ${SOURCE_PORTS} connections were made within ${TIME_OUT_MS} ms`);
  return ((last - first) * 1000) / (lastMs - firstMs);
}
