/** The bench's output: one side-by-side table, the figures that are asked for as ratios within the run, and JSON. */
import Table from 'cli-table3';
import type { Figure } from './figures.ts';

/** All medians of one peer; absent where it was not measured. */
export interface PeerResult {
  id: string;
  title: string;
  describe: string;
  tcpOneBps?: number;
  tcpFourBps?: number;
  smallOfferedPps?: number;
  smallDeliveredPps?: number;
  machineUsPerPacket?: number;
  latencyP50Us?: number;
  latencyP99Us?: number;
  failure?: string;
}

const dash = '-';
const gigabits = (value: number | undefined) => (value === undefined ? dash : (value / 1e9).toFixed(1));
const megapackets = (value: number | undefined) => (value === undefined ? dash : (value / 1e6).toFixed(2));
const plain = (value: number | undefined) => (value === undefined ? dash : value.toFixed(1));

/** The side-by-side table for people. */
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
    style: { head: [], border: [] },
  });
  for (const r of results) {
    table.push([
      r.failure === undefined ? r.title : `${r.title}: ${r.failure.slice(0, 60)}`,
      gigabits(r.tcpOneBps),
      gigabits(r.tcpFourBps),
      megapackets(r.smallOfferedPps),
      megapackets(r.smallDeliveredPps),
      plain(r.latencyP50Us),
      plain(r.latencyP99Us),
      plain(r.machineUsPerPacket),
    ]);
  }
  return table.toString();
}

/** The figures with what was measured, one a line. */
export function figureTable(figures: readonly Figure[]): string {
  const table = new Table({ head: ['figure', 'wanted', 'measured', ''], style: { head: [], border: [] } });
  for (const f of figures) table.push([f.what, f.wanted, f.measured, f.reached ? 'reached' : 'MISSED']);
  return table.toString();
}
