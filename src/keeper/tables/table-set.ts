/** The flow tables that are offered, those first that were offered first, and which of them decides about a port. Neighbours: tables.ts fills it. */
import type { FlowSource } from '../../flow/index.ts';
import type { ConnectionReferences, CopyMaps } from '../../offload/index.ts';
import type { PortPrograms } from '../ports/port.ts';
import type { KeptTable } from './table.ts';

export class TableSet {
  /** Null for one that does not run in the kernel now. */
  readonly offered = new Map<FlowSource, KeptTable | null>();

  /** What programs track packets by. */
  connections: ConnectionReferences | null = null;

  /** Those that run in the kernel. */
  *running(): Generator<KeptTable, undefined> {
    for (const table of this.offered.values()) if (table !== null) yield table;
  }

  /** The one that decides about the packets of a port; null when none does. */
  decidingAbout(port: PortPrograms): KeptTable | null {
    for (const table of this.running()) if (table.has(port)) return table;
    return null;
  }

  /** Whether one of them decides about an interface that it has taken up from a former process. */
  isTaken(ifindex: number): boolean {
    for (const table of this.running()) if (table.hasTaken(ifindex)) return true;
    return false;
  }

  /** Have the programs of all tables copy what they carry, or none. @returns whether it is so now */
  setCopies(copies: CopyMaps | null): boolean {
    let isSo = true;
    for (const { flows } of this.running()) if (!flows.setCopies(copies)) isSo = false;
    return isSo;
  }

  /** Have the programs of all tables, those that come as well, track packets by these connections, or by none. */
  setConnections(connections: ConnectionReferences | null): void {
    this.connections = connections;
    for (const { flows } of this.running()) flows.setConnections(connections);
  }

  /** Bring what the kernel has counted to the tables. */
  sync(): void {
    for (const { flows } of this.running()) flows.sync();
  }

  /** The same, little by little. */
  syncSoon(): void {
    for (const { flows } of this.running()) flows.syncSoon();
  }
}
