/**
 * Policies: which attributes a message or a nest may hold, under which names, and of what kind (fields.ts). One definition serves both
 * directions: `decode` turns attributes into a plain record with checked values, `encode` writes such a record.
 *
 * Two degrees of severity, as in the kernel. Liberal suits replies: a newer kernel adds attributes and lengthens structures, which
 * must not break an older reader. Strict (NL_VALIDATE_STRICT) suits requests: what is not understood is refused, not ignored.
 */
import { AttributeCursor } from './attribute.ts';
import { ATTRIBUTE_HEADER_BYTES, NLA_TYPE_MASK } from './constants.ts';
import { NetlinkError } from './error.ts';
import type { MessageWriter } from './writer.ts';

/** State of one decoding, shared by all nests of a message. */
export class Decoding {
  readonly bytes: Uint8Array;
  readonly strict: boolean;
  /** Names of the attributes that are open at the moment, outermost first. */
  readonly path: string[] = [];

  constructor(bytes: Uint8Array, strict: boolean) {
    this.bytes = bytes;
    this.strict = strict;
  }

  /** Refuse the message, at the attribute whose content starts here. */
  fail(reason: string, contentStart: number, errno?: number): never {
    throw new NetlinkError(reason, {
      offset: contentStart - ATTRIBUTE_HEADER_BYTES,
      path: [...this.path],
      ...(errno === undefined ? {} : { errno }),
    });
  }

  /** Step a cursor, which does not know the names on the way to it: they are added to its error. */
  step(cursor: AttributeCursor): boolean {
    try {
      return cursor.next();
    } catch (error) {
      if (!(error instanceof NetlinkError) || this.path.length === 0) throw error;
      throw new NetlinkError(error.reason, { offset: error.offset, path: [...this.path], errno: error.errno });
    }
  }
}

/** How the content of one kind of attribute is read and written. The kinds are in fields.ts. */
export interface Field<T> {
  /** The content is attributes: NLA_F_NESTED belongs on it. */
  readonly nested: boolean;
  /**
   * @param start index of the content
   * @param end index behind it
   * @param previous the value so far, when the attribute came before in this nest
   * @throws NetlinkError, through `input.fail`
   */
  read(input: Decoding, start: number, end: number, previous: T | undefined): T;
  write(writer: MessageWriter, type: number, value: T): void;
}

/** Names with the attribute's number and kind. */
export type PolicyShape = Readonly<Record<string, readonly [type: number, field: Field<unknown>]>>;

/** The record that belongs to a shape: everything is optional on the wire. */
export type Values<Shape extends PolicyShape> = {
  -readonly [Name in keyof Shape]?: Shape[Name] extends readonly [number, Field<infer T>] ? T | undefined : never;
};

/** The record that belongs to a policy. */
export type ValuesOf<P> = P extends Policy<infer Shape> ? Values<Shape> : never;

/** A set of attributes. Make one with {@link policy}. */
export class Policy<Shape extends PolicyShape> {
  readonly #byType = new Map<number, readonly [name: string, field: Field<unknown>]>();
  readonly #entries: (readonly [name: string, type: number, field: Field<unknown>])[] = [];

  constructor(shape: Shape) {
    for (const [name, [type, field]] of Object.entries(shape)) {
      this.#byType.set(type & NLA_TYPE_MASK, [name, field]);
      this.#entries.push([name, type, field]);
    }
  }

  /**
   * Read the attributes of a message.
   * @param bytes the message; offsets in errors are indexes into it
   * @param start index of the first attribute
   * @param options.strict refuse unknown attributes, stray bytes, wrong lengths and missing or wrong NLA_F_NESTED
   * @throws NetlinkError with offset, attribute path and the errno that the kernel would answer
   */
  decode(bytes: Uint8Array, start: number, options: { end?: number; strict?: boolean } = {}): Values<Shape> {
    return this.decodeNest(new Decoding(bytes, options.strict ?? false), start, options.end ?? bytes.length);
  }

  /** Read a nest inside a decoding that is going on. A repeated attribute overrides an earlier one unless its field collects. */
  decodeNest(input: Decoding, start: number, end: number): Values<Shape> {
    const values: Record<string, unknown> = {};
    const cursor = new AttributeCursor(input.bytes, start, end);
    while (input.step(cursor)) {
      const known = this.#byType.get(cursor.type);
      if (known === undefined) {
        if (input.strict) input.fail(`unknown attribute type ${cursor.type}`, cursor.start);
        continue;
      }
      const [name, field] = known;
      input.path.push(name);
      if (input.strict && cursor.nested !== field.nested) {
        input.fail(field.nested ? 'NLA_F_NESTED is missing' : 'NLA_F_NESTED not expected', cursor.start);
      }
      values[name] = field.read(input, cursor.start, cursor.end, values[name]);
      input.path.pop();
    }
    if (input.strict && cursor.trailingBytes > 0) {
      throw new NetlinkError(`${cursor.trailingBytes} bytes left behind the last attribute`, {
        offset: end - cursor.trailingBytes,
        path: [...input.path],
      });
    }
    return values as Values<Shape>;
  }

  /**
   * Write the attributes of a record, in the order of the definition. What is undefined is left out.
   * @throws NetlinkError for a value that its field cannot hold
   */
  encode(writer: MessageWriter, values: Values<Shape>): void {
    const record: Readonly<Record<string, unknown>> = values;
    for (const [name, type, field] of this.#entries) {
      const value = record[name];
      if (value !== undefined) field.write(writer, type, value);
    }
  }
}

/**
 * Define a policy.
 * @example policy({ name: [IFLA.IFNAME, string({ maxBytes: 15 })], mtu: [IFLA.MTU, u32()] })
 */
export function policy<const Shape extends PolicyShape>(shape: Shape): Policy<Shape> {
  return new Policy(shape);
}

/**
 * An attribute that a request must hold.
 * @throws NetlinkError when it is not there
 */
export function required<V extends object, Name extends keyof V & string>(
  values: V,
  name: Name,
): Exclude<V[Name], undefined> {
  const value = values[name];
  if (value === undefined) throw new NetlinkError('required attribute is missing', { path: [name] });
  return value as Exclude<V[Name], undefined>;
}
