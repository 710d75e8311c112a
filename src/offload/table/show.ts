/** What `millrace offload show` tells of one flow table: programs, masks with hits, ports, and flows that are not offloaded. Plain data. */
import type { OfferedFlows } from '../../flow/index.ts';
import type { InterfaceIndex, KeyPort } from '../../net/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import type { MappedTables } from '../layout/mapped-tables.ts';
import type { PortCounters } from '../layout/port-table.ts';
import type { FlowOffload } from './flow-offload.ts';
import type { HookState } from './hook-state.ts';
import { maskTexts } from './mask-text.ts';

export interface ShownMask {
  /** Such as `in_port,eth(dst),eth_type(0x0800),ipv4(src/255.0.0.0)`. */
  readonly text: string;
  readonly flows: number;
  /** Packets since the mask is there. */
  readonly packets: number;
}

export interface ShownHook {
  readonly hook: OffloadHook;
  /** False when no program runs; `refusal` says why, if there was one. */
  readonly running: boolean;
  readonly refusal: string | null;
  readonly instructions: number;
  readonly shapes: readonly { readonly id: string; readonly flows: number }[];
  /** In the order in which they are looked up. */
  readonly masks: readonly ShownMask[];
}

export interface ShownPort extends PortCounters {
  readonly ifindex: InterfaceIndex;
  readonly number: KeyPort;
  readonly hook: OffloadHook;
}

export interface ShownOffload {
  readonly flows: number;
  /** Those of them that have no actions, which is to drop. */
  readonly dropFlows: number;
  readonly offloadedFlows: number;
  /** Entries in use and how many there may be before tables grow. */
  readonly entries: number;
  readonly capacity: number;
  readonly hooks: readonly ShownHook[];
  readonly ports: readonly ShownPort[];
  /** Flows that the engine has, by reason, the most frequent first. */
  readonly reasons: readonly { readonly reason: string; readonly flows: number }[];
}

/** Statistics are brought up to date for it. */
export function showOffload(offload: FlowOffload): ShownOffload {
  offload.sync();
  const reasons = new Map<string, number>();
  for (const reason of offload.reasons().values()) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  const ports: ShownPort[] = [];
  for (const { ifindex, number, hook } of offload.ports.all()) {
    const counters = offload.portCounters(ifindex);
    if (hook !== null && counters !== null) ports.push({ ifindex, number, hook, ...counters });
  }
  const { tables } = offload.placement;
  const { entries } = tables;
  return {
    flows: offload.table.size,
    dropFlows: dropFlows(offload.table),
    offloadedFlows: offload.table.size - offload.reasons().size,
    entries: entries.used,
    capacity: entries.sizes.entries - 1,
    hooks: [offload.tc, offload.xdp].filter((state) => state.ports > 0).map((state) => showHook(state, tables)),
    ports,
    reasons: [...reasons].map(([reason, flows]) => ({ reason, flows })).sort((a, b) => b.flows - a.flows),
  };
}

function dropFlows(table: OfferedFlows): number {
  let count = 0;
  for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
    if (!table.hasActions(slot)) count += 1;
  }
  return count;
}

function showHook(state: HookState, tables: MappedTables): ShownHook {
  const texts = maskTexts(state, tables);
  const shapes = new Set(state.loaded?.plan.shapes.map(({ number }) => number));
  return {
    hook: state.hook,
    running: state.loaded !== null,
    refusal: state.refused?.reason ?? null,
    instructions: state.loaded?.instructions ?? 0,
    shapes: [...state.shapes.all()]
      .filter(({ number }) => shapes.has(number))
      .map(({ id, entries }) => ({ id, flows: entries })),
    // Others wait in the program for a while, in case flows come again.
    masks: state.order
      .filter(({ entries }) => entries > 0)
      .map(({ number, entries, packets }) => ({ text: texts.get(number) ?? '', flows: entries, packets })),
  };
}
