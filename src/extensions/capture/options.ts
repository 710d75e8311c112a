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

const optionsSchema = z.strictObject({
  /** Only these ports; null or left out: all, those to come included. */
  portIds: z.array(z.int().min(1).max(MAX_PORT_ID)).min(1).max(MAX_PORT_ID).nullable().default(null),
  /** `in`: what ports send into the switch; `out`: what is delivered to them. */
  direction: z.enum(['in', 'out', 'both']).default('both'),
  /** A filter expression of net/; empty or left out: everything. */
  filter: z.string().default(''),
  /** Most bytes of a frame to keep, 64 or more; left out: whole frames, super-packets included. */
  snapLengthBytes: z.int().min(MINIMUM_SNAP_BYTES).max(MAXIMUM_SNAP_BYTES).default(MAXIMUM_SNAP_BYTES),
  /** Room for what has not been read yet. */
  ringBytes: z.int().min(MINIMUM_RING_BYTES).max(MAXIMUM_RING_BYTES).default(DEFAULT_RING_BYTES),
});

/** What to record. */
export type CaptureOptions = Readonly<z.input<typeof optionsSchema>>;

/** The same with nothing left out; the filter is null for everything. */
export type CheckedCaptureOptions = Readonly<Omit<z.output<typeof optionsSchema>, 'filter'>> & {
  readonly filter: FilterExpression | null;
};

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
  const { filter, ...rest } = checked.data;
  return { ...rest, filter: filter.trim() === '' ? null : compile(filter) };
}

function compile(text: string): FilterExpression {
  try {
    return new FilterExpression(text);
  } catch (error) {
    if (error instanceof FilterExpressionError) throw new CaptureOptionsError(error.message, { cause: error });
    throw error;
  }
}
