/**
 * The tracker that requests of programs are about. A table takes memory, so it is made for those that put something into it; those that ask about connections, or
 * end some, find nothing while there is none.
 */
import { type Connections, ConnectionTable, plainMemory, Tracker } from '../../../connections/index.ts';

let nothing: Tracker | null = null;

/** @param isToKeep whether the request has something to be kept */
export function trackerOf(connections: Connections, isToKeep: boolean): Tracker {
  if (isToKeep || connections.table !== null) return connections.tracker;
  nothing ??= new Tracker({ table: ConnectionTable.format(plainMemory(1), 1, [0, 0], { nowMs: () => 0 }) });
  return nothing;
}
