/**
 * What a capture session is asked to record, checked: it comes from the control socket. Neighbours: session.ts obeys it.
 */
import { z } from 'zod';
import { FilterExpression, FilterExpressionError } from '../../net/index.ts';
import { MAX_PORT_ID } from '../../switch/index.ts';
import { MAXIMUM_RING_BYTES, MINIMUM_RING_BYTES } from './ring.ts';

/** Longest frame there can be, which is the snap length when none is given. */
const MAXIMUM_SNAP_BYTES = 262_144;
const MINIMUM_SNAP_BYTES = 64;
const DEFAULT_RING_BYTES = 4_194_304;

/** The options of a session cannot be obeyed. The message lists every finding, one a line. */
export class CaptureOptionsError extends Error {
  override readonly name = 'CaptureOptionsError';
}

/** What to record. */
export interface CaptureOptions {
  /** Only these ports; null or left out: all, those to come included. */
  readonly portIds?: readonly number[] | null | undefined;
  /** `in`: what ports send into the switch; `out`: what is delivered to them. Default both. */
  readonly direction?: 'in' | 'out' | 'both' | undefined;
  /** A filter expression of net/; empty or left out: everything. */
  readonly filter?: string | undefined;
  /** Most bytes of a frame to keep, 64 or more; left out: whole frames, super-packets included. */
  readonly snapLengthBytes?: number | undefined;
  /** Room for what has not been read yet. Default 4 MiB. */
  readonly ringBytes?: number | undefined;
}

/** The same with nothing left out. */
export interface CheckedCaptureOptions {
  readonly portIds: readonly number[] | null;
  readonly direction: 'in' | 'out' | 'both';
  /** Null: everything. */
  readonly filter: FilterExpression | null;
  readonly snapLengthBytes: number;
  readonly ringBytes: number;
}

const optionsSchema = z.strictObject({
  portIds: z.array(z.int().min(1).max(MAX_PORT_ID)).min(1).max(MAX_PORT_ID).nullish(),
  direction: z.enum(['in', 'out', 'both']).optional(),
  filter: z.string().optional(),
  snapLengthBytes: z.int().min(MINIMUM_SNAP_BYTES).max(MAXIMUM_SNAP_BYTES).optional(),
  ringBytes: z.int().min(MINIMUM_RING_BYTES).max(MAXIMUM_RING_BYTES).optional(),
});

/**
 * Check options from outside.
 * @throws CaptureOptionsError
 */
export function parseCaptureOptions(value: unknown): CheckedCaptureOptions {
  const checked = optionsSchema.safeParse(value);
  if (!checked.success) {
    const issues = checked.error.issues.map((issue) => [...issue.path.map(String), issue.message].join(': '));
    throw new CaptureOptionsError(issues.join('\n'));
  }
  const { portIds, direction, filter, snapLengthBytes, ringBytes } = checked.data;
  return {
    portIds: portIds ?? null,
    direction: direction ?? 'both',
    filter: filter === undefined || filter.trim() === '' ? null : compile(filter),
    snapLengthBytes: snapLengthBytes ?? MAXIMUM_SNAP_BYTES,
    ringBytes: ringBytes ?? DEFAULT_RING_BYTES,
  };
}

function compile(text: string): FilterExpression {
  try {
    return new FilterExpression(text);
  } catch (error) {
    if (error instanceof FilterExpressionError) throw new CaptureOptionsError(error.message, { cause: error });
    throw error;
  }
}
