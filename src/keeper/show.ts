/** What people see of offload: tables, ports, and flows that are not there. ports/ and tables/ decide what is. */
import { type FlowSource, formatActions, formatFlowKey, KEY_WORDS } from '../flow/index.ts';
import { showOffload } from '../offload/index.ts';

import type { PortPrograms } from './ports/port.ts';
import type { OffloadFlow, OffloadPortInfo, OffloadTable } from './shown.ts';
import type { KeptTable } from './tables/table.ts';

/** Tables that run in the kernel. */
export function showTables(sources: Iterable<KeptTable>): OffloadTable[] {
  const tables: OffloadTable[] = [];
  for (const offloaded of sources) {
    const shown = showOffload(offloaded.flows);
    tables.push({
      name: offloaded.source.name,
      masks: shown.hooks.flatMap(({ hook, masks }) =>
        masks.map(({ text, flows, packets }) => ({ fields: `${hook}: ${text}`, flows, hits: packets })),
      ),
      flows: shown.flows,
      dropFlows: shown.dropFlows,
      flowsInKernel: shown.offloadedFlows,
      reasons: [...shown.reasons],
      handedDown: offloaded.down.handedDown,
      cameUpAgain: offloaded.down.cameUp,
      apart: Object.entries(offloaded.source.apart?.() ?? {})
        .map(([reason, packets]) => ({ reason, packets }))
        .sort((a, b) => b.packets - a.packets),
    });
  }
  return tables;
}

/** Flows of these tables: of each table first those that are not in the kernel. @param limit how many at most */
export function showFlows(sources: Iterable<KeptTable>, limit: number): OffloadFlow[] {
  const shown: OffloadFlow[] = [];
  for (const { source, flows } of sources) {
    flows.sync();
    const { table } = source;
    const reasons = flows.reasons();
    for (const [slot, reason] of reasons) {
      if (shown.length >= limit) return shown;
      shown.push(showFlow(source, slot, reason));
    }
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
      if (shown.length >= limit) return shown;
      if (!reasons.has(slot)) shown.push(showFlow(source, slot, null));
    }
  }
  return shown;
}

const shownKey = new Uint32Array(KEY_WORDS);

function showFlow(source: FlowSource, slot: number, reason: string | null): OffloadFlow {
  const { name, table } = source;
  table.readKey(slot, shownKey);
  const { deciders, drop } = source.describe?.(slot) ?? { deciders: [source.returnsWith ?? name], drop: null };
  return {
    table: name,
    match: formatFlowKey(shownKey, table.maskOf(slot).words),
    actions: formatActions(table.actionsOf(slot)),
    packets: table.packetsOf(slot),
    bytes: table.bytesOf(slot),
    deciders: [...deciders],
    drop,
    reason,
  };
}

/** A port that is not offloaded though it was to be. */
export function showRefused(port: string, reason: string): OffloadPortInfo {
  const nothing = { carriedPackets: 0, carriedBytes: 0, droppedPackets: 0, puntedPackets: 0, passedPackets: 0 };
  const lost = { punts: 0, refused: 0, failed: 0, copies: 0 };
  return { port, hook: null, program: null, foreign: [], ...nothing, lost, reason };
}

/** What the kernel does for a port. */
export function showPort(one: PortPrograms): OffloadPortInfo {
  const counters = one.source?.flows.portCounters(one.ifindex) ?? null;
  const { failed = 0, lostCopies: copies = 0 } = counters ?? {};
  return {
    port: one.port.name,
    hook: one.hook,
    program: (one.xdp ?? one.tc)?.programId ?? null,
    foreign: one.foreign.map(({ name, hook }) => `${name} at ${hook}`),
    carriedPackets: counters?.carriedPackets ?? 0,
    carriedBytes: counters?.carriedBytes ?? 0,
    droppedPackets: counters?.dropped ?? 0,
    puntedPackets: one.isTap ? (counters?.punted ?? 0) : (one.claim?.handled ?? 0),
    passedPackets: counters?.passed ?? 0,
    lost: { punts: one.lostPunts, refused: one.share?.refused ?? 0, failed, copies },
    reason: one.why,
  };
}
