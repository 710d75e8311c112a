/**
 * The arrays of a table of connections/ as programs name them: the engine writes it, programs read it and note what they see of connections that are established.
 * connections/layout.ts draws what lies in them.
 */
import type { MapReference } from '../../bpf/index.ts';

export type ConnectionArray = 'control' | 'index' | 'records';

export interface ConnectionReferences extends Readonly<Record<ConnectionArray, MapReference>> {
  /** Connections that there is room for, at most MAXIMUM_MAPPED_CONNECTIONS of connections/. */
  readonly capacity: number;
}
