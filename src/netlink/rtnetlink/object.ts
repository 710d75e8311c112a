/** What all rtnetlink objects share: a fixed header with its own fields, then attributes by a policy, both in one flat record. */
import { MESSAGE_HEADER_BYTES } from '../constants.ts';
import { checkFamilyHeader, type Message } from '../message.ts';
import type { Policy, PolicyShape, Values } from '../policy.ts';
import type { MessageWriter } from '../writer.ts';

/** A fixed header as a record. */
export interface Header<H extends object> {
  /** The C name, for error messages. */
  readonly name: string;
  readonly lengthBytes: number;
  /** A header that says nothing: defaults for what a caller leaves out. */
  readonly empty: Readonly<H>;
  read(bytes: Uint8Array, at: number): H;
  /** Check the values' ranges and fill zeroed bytes. */
  fill(bytes: Uint8Array, header: H): void;
}

/** @throws NetlinkError when the message is malformed */
export function parseObject<H extends object, Shape extends PolicyShape>(
  message: Message,
  header: Header<H>,
  attributes: Policy<Shape>,
): H & Values<Shape> {
  const start = checkFamilyHeader(message, header.lengthBytes, header.name);
  return { ...attributes.decode(message.bytes, start), ...header.read(message.bytes, MESSAGE_HEADER_BYTES) };
}

/**
 * Write the body of a message behind `begin`, or of a nest that begins with the same header.
 * @throws NetlinkError for a value that its field cannot hold
 */
export function writeObject<H extends object, Shape extends PolicyShape>(
  writer: MessageWriter,
  header: Header<H>,
  attributes: Policy<Shape>,
  record: Partial<H> & Values<Shape>,
): void {
  const bytes = new Uint8Array(header.lengthBytes);
  header.fill(bytes, { ...header.empty, ...record });
  writer.raw(bytes);
  attributes.encode(writer, record);
}
