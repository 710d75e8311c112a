/** What people see of offload: tables, ports, and flows that are not there. port-offloads.ts and flow-tables.ts decide what is. */
import { formatActions, formatFlowKey, KEY_WORDS } from '../../../flow/index.ts';
import { showOffload } from '../../../offload/index.ts';
import type { OffloadPort, OffloadRefusal, OffloadTable } from '../../api.ts';
import type { PortOffload } from './port-offload.ts';
import type { OffloadedSource } from './source.ts';

/** Tables that run in the kernel. */
export function showTables(sources: Iterable<OffloadedSource>): OffloadTable[] {
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
    });
  }
  return tables;
}

/** Flows that are not in the kernel. @param limit how many at most */
export function showRefused(sources: Iterable<OffloadedSource>, limit: number): OffloadRefusal[] {
  const refusals: OffloadRefusal[] = [];
  const key = new Uint32Array(KEY_WORDS);
  for (const offloaded of sources) {
    const { name, table } = offloaded.source;
    for (const [slot, reason] of offloaded.flows.reasons()) {
      if (refusals.length >= limit) return refusals;
      table.readKey(slot, key);
      const match = formatFlowKey(key, table.maskOf(slot).words);
      refusals.push({ table: name, match, actions: formatActions(table.actionsOf(slot)), reason });
    }
  }
  return refusals;
}

/** What the kernel does for a port. */
export function showPort(one: PortOffload): OffloadPort {
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
    lost: { punts: one.lostPunts, failed, copies },
    reason: one.why,
  };
}
