/**
 * Structures: named fields, each at the next offset that its alignment allows, as a C compiler would lay them.
 * Neighbour: map/layout.ts has the fields' own layouts.
 */
import type { BtfMember, BtfTypes } from '../btf/types.ts';
import { LayoutError } from '../errors.ts';
import { type Layout, roundUp } from './layout.ts';

type FieldValue<L> = L extends { read(view: DataView, offset: number): infer T } ? T : never;

/** The value of a structure. */
export type StructValue<F> = { [Name in keyof F]: FieldValue<F[Name]> };

/** A structure's layout, which also knows where its fields are. */
export interface StructLayout<F> extends Layout<StructValue<F>> {
  readonly name: string;
  readonly fields: F;
  /** Byte offset of a field, for programs: `at(R0, flow.offsetOf('bytes'))`. @throws LayoutError for a name it has not */
  offsetOf(field: keyof F & string): number;
}

interface Placed {
  readonly name: string;
  readonly offset: number;
  readonly layout: Layout<unknown>;
}

/**
 * A structure. Gaps are made where alignment needs them, and are zero when written.
 * @param fields name to layout, in order
 * @param name what bpftool shall call it
 * @example
 * ```ts
 * const counters = struct({ packets: count64, bytes: count64 }, 'counters');
 * counters.offsetOf('bytes'); // 8
 * ```
 */
export function struct<const F extends Readonly<Record<string, unknown>>>(
  fields: F & { readonly [Name in keyof F]: F[Name] extends Layout<infer T> ? Layout<T> : never },
  name = 'value',
): StructLayout<F> {
  const placed: Placed[] = [];
  let end = 0;
  let alignBytes = 1;
  for (const [field, layout] of Object.entries(fields) as [string, Layout<unknown>][]) {
    const offset = roundUp(end, layout.alignBytes);
    placed.push({ name: field, offset, layout });
    end = offset + layout.sizeBytes;
    alignBytes = Math.max(alignBytes, layout.alignBytes);
  }
  const sizeBytes = roundUp(end, alignBytes);
  const hasGaps = placed.reduce((sum, { layout }) => sum + layout.sizeBytes, 0) !== sizeBytes;
  return {
    name,
    fields,
    sizeBytes,
    alignBytes,
    offsetOf(field) {
      const found = placed.find((candidate) => candidate.name === field);
      if (found === undefined) throw new LayoutError(`struct "${name}" has no field "${field}"`);
      return found.offset;
    },
    read(view, offset) {
      const value: Record<string, unknown> = {};
      for (const field of placed) value[field.name] = field.layout.read(view, offset + field.offset);
      return value as StructValue<F>;
    },
    write(view, offset, value) {
      if (hasGaps) new Uint8Array(view.buffer, view.byteOffset + offset, sizeBytes).fill(0);
      const values = value as Readonly<Record<string, unknown>>;
      for (const field of placed) {
        if (!(field.name in values)) throw new LayoutError(`field "${field.name}" of struct "${name}" is missing`);
        field.layout.write(view, offset + field.offset, values[field.name]);
      }
    },
    describe(types: BtfTypes) {
      const members = placed.map(
        (field): BtfMember => ({ name: field.name, type: field.layout.describe(types), offsetBytes: field.offset }),
      );
      return types.struct(name, sizeBytes, members);
    },
  };
}
