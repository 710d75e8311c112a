/** Whole flows as text: a line as `ovs-dpctl dump-flows` prints it, and flow identifiers. */
import { KEY_WORDS } from '../key/layout.ts';
import type { FlowTable } from '../table/table.ts';
import { UFID_MAXIMUM_BYTES } from '../table/ufid-index.ts';
import { formatActions } from './actions.ts';
import { formatFlowKey } from './flow-key.ts';
import { FlowTextError } from './scanner.ts';
import { hexDigits } from './values.ts';

/** The letters of TCP flags in statistics, the lowest bit first, in the order in which Open vSwitch prints them. */
const TCP_FLAG_LETTERS: readonly [bit: number, letter: string][] = [
  [0x002, 'S'],
  [0x001, 'F'],
  [0x008, 'P'],
  [0x004, 'R'],
  [0x020, 'U'],
  [0x010, '.'],
  [0x040, 'E'],
  [0x080, 'C'],
  [0x100, 'N'],
];

/**
 * One flow of a table as a line of text.
 * @param nowMs the clock that the flow's times are of
 */
export function formatFlow(table: FlowTable, slot: number, nowMs: number): string {
  const key = new Uint32Array(KEY_WORDS);
  table.readKey(slot, key);
  const ufid = table.ufidOf(slot);
  const packets = table.packetsOf(slot);
  const usedMs = table.usedMsOf(slot);
  const flags = TCP_FLAG_LETTERS.filter(([bit]) => (table.tcpFlagsOf(slot) & bit) !== 0).map(([, letter]) => letter);
  return [
    ...(ufid === null ? [] : [`ufid:${formatUfid(ufid)}`]),
    formatFlowKey(key, table.maskOf(slot).words),
    `packets:${packets}`,
    `bytes:${table.bytesOf(slot)}`,
    `used:${packets === 0 ? 'never' : `${(Math.max(nowMs - usedMs, 0) / 1000).toFixed(3)}s`}`,
    ...(flags.length === 0 ? [] : [`flags:${flags.join('')}`]),
    `actions:${formatActions(table.actionsOf(slot))}`,
  ].join(', ');
}

/** Identifiers of 16 bytes in the form of a UUID, as four numbers in the host's order, as Open vSwitch writes them; others as plain hexadecimal. */
export function formatUfid(ufid: Uint8Array): string {
  if (ufid.length === UFID_MAXIMUM_BYTES) return formatUuid(inHostOrder(ufid));
  return hexDigits(ufid);
}

/** Bytes of little-endian numbers of 32 bits, the highest of each first; and back. */
function inHostOrder(bytes: Uint8Array): Uint8Array {
  return bytes.map((_, i) => bytes[i ^ 3]);
}

function formatUuid(bytes: Uint8Array): string {
  const digits = hexDigits(bytes);
  return `${digits.slice(0, 8)}-${digits.slice(8, 12)}-${digits.slice(12, 16)}-${digits.slice(16, 20)}-${digits.slice(20)}`;
}

/**
 * Read an identifier, with or without dashes and the prefix 'ufid:'.
 * @throws FlowTextError when it is not 1 to 16 bytes in hexadecimal
 */
export function parseUfid(text: string): Uint8Array {
  const digits = text.replace(/^ufid:/, '').replaceAll('-', '');
  if (!/^(?:[0-9a-fA-F]{2}){1,16}$/.test(digits)) throw new FlowTextError(`'${text}' is not a flow identifier`, 0);
  const bytes = Uint8Array.from({ length: digits.length / 2 }, (_, i) =>
    Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16),
  );
  return bytes.length === UFID_MAXIMUM_BYTES ? inHostOrder(bytes) : bytes;
}
