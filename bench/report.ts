/** The bench's output: the side-by-side tables, the figures that are asked for as ratios within the run, and JSON. */
import Table from 'cli-table3';
import type { Figure } from './figures.ts';

/** Small packets as fast as they go, in so many flows. */
export interface SmallResult {
  flows: number;
  offeredPps: number;
  deliveredPps: number;
}

/** All medians of one peer; absent where it was not measured. */
export interface PeerResult {
  id: string;
  title: string;
  describe: string;
  small: SmallResult[];
  tcpOneBps?: number;
  tcpFourBps?: number;
  machineUsPerPacket?: number;
  latencyP50Us?: number;
  latencyP99Us?: number;
  /** Of the last round. */
  remark?: string;
  failure?: string;
  /** The failure is that this machine, or this state of Millrace, has no such thing. */
  notAvailable?: boolean;
}

/** Small packets delivered in so many flows. */
export function deliveredOf(result: PeerResult | undefined, flows: number): number | undefined {
  return result?.small.find((one) => one.flows === flows)?.deliveredPps;
}

/** The number of flows of the first table. */
export const USUAL_FLOWS = 16;

const dash = '-';
const gigabits = (value: number | undefined) => (value === undefined ? dash : (value / 1e9).toFixed(1));
const megapackets = (value: number | undefined) => (value === undefined ? dash : (value / 1e6).toFixed(2));
const plain = (value: number | undefined) => (value === undefined ? dash : value.toFixed(1));
const noColours = { head: [], border: [] };

function titleOf(result: PeerResult): string {
  if (result.failure === undefined) return result.title;
  return `${result.title} (${result.notAvailable === true ? 'not available' : 'failed'})`;
}

/** What went wrong with whom, and what there is to know of others, a line each. */
export function notes(results: readonly PeerResult[]): string {
  return results
    .map((r) => ({ title: titleOf(r), text: (r.failure ?? r.remark ?? '').replaceAll(/\s+/g, ' ').slice(0, 300) }))
    .filter(({ text }) => text !== '')
    .map(({ title, text }) => `${title}: ${text}\n`)
    .join('');
}

/** The side-by-side table for people. Peers that only carry small packets are in the second one alone. */
export function sideBySide(results: readonly PeerResult[]): string {
  const table = new Table({
    head: [
      '',
      'TCP x1\nGbit/s',
      'TCP x4\nGbit/s',
      'offered\nMpps',
      'delivered\nMpps',
      'RTT p50\nus',
      'RTT p99\nus',
      'machine\nus/packet',
    ],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
    style: noColours,
  });
  for (const r of results) {
    const small = r.small.find((one) => one.flows === USUAL_FLOWS);
    table.push([
      titleOf(r),
      gigabits(r.tcpOneBps),
      gigabits(r.tcpFourBps),
      megapackets(small?.offeredPps),
      megapackets(small?.deliveredPps),
      plain(r.latencyP50Us),
      plain(r.latencyP99Us),
      plain(r.machineUsPerPacket),
    ]);
  }
  return table.toString();
}

/** Small packets delivered, by the number of flows; empty when there was but the usual number. */
export function byFlows(results: readonly PeerResult[]): string {
  const numbers = [...new Set(results.flatMap((r) => r.small.map((one) => one.flows)))].sort((a, b) => a - b);
  if (!numbers.some((flows) => flows !== USUAL_FLOWS)) return '';
  const table = new Table({
    head: ['small packets delivered, Mpps', ...numbers.map((flows) => `${flows.toLocaleString('en')} flows`)],
    colAligns: ['left', ...numbers.map(() => 'right' as const)],
    style: noColours,
  });
  for (const r of results) {
    if (r.small.length === 0) continue;
    table.push([r.title, ...numbers.map((flows) => megapackets(deliveredOf(r, flows)))]);
  }
  return `${table.toString()}\n`;
}

/** The figures with what was measured, one a line. */
export function figureTable(figures: readonly Figure[]): string {
  const table = new Table({ head: ['figure', 'wanted', 'measured', ''], style: noColours });
  for (const f of figures) table.push([f.what, f.wanted, f.measured, verdict(f)]);
  return table.toString();
}

function verdict(figure: Figure): string {
  if (figure.reached === null) return '';
  return figure.reached ? 'reached' : 'MISSED';
}
