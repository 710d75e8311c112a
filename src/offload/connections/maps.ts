/**
 * The arrays of a table of connections/ as programs name them: the engine writes it, programs read it and note what they see of connections that are established.
 * connections/layout.ts draws what lies in them.
 */
import type { MapReference } from '../../bpf/index.ts';
import { RECORD_WORDS } from '../../connections/index.ts';

export type ConnectionArray = 'control' | 'index' | 'records';

export interface ConnectionReferences extends Readonly<Record<ConnectionArray, MapReference>> {
  /** Connections that there is room for, at most {@link MAXIMUM_MAPPED_CONNECTIONS}. */
  readonly capacity: number;
}

/** The verifier follows offsets into a map up to here (BPF_MAX_VAR_OFF). */
const MAXIMUM_OFFSET = 1 << 29;

/** The most connections of a table that programs read. */
export const MAXIMUM_MAPPED_CONNECTIONS = Math.floor(MAXIMUM_OFFSET / (RECORD_WORDS * 4)) - 2;
