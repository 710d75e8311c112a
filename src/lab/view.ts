/** The lab's live view as text: ports with their rates, drops with their reasons, learned addresses. */
import Table from 'cli-table3';
import type { DropCount, FdbEntry, PortInfo } from '../daemon/client.ts';

/** What one refresh shows. */
export interface Snapshot {
  timeMs: number;
  ports: PortInfo[];
  drops: DropCount[];
  addresses: FdbEntry[];
}

const plain = { head: [], border: [] };

function table(head: string[], rows: string[][]): string {
  const out = new Table({ head, style: plain, colAligns: head.map((_, i) => (i === 0 ? 'left' : 'right')) });
  for (const row of rows) out.push(row);
  return out.toString();
}

function rate(value: number, unit: string): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} G${unit}`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M${unit}`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)} k${unit}`;
  return `${value.toFixed(0)} ${unit}`;
}

/** @param before the snapshot that rates are counted from; without it they are left out */
export function render(now: Snapshot, before: Snapshot | null): string {
  const seconds = before === null ? 0 : (now.timeMs - before.timeMs) / 1000;
  const ports = now.ports.map((port) => {
    const old = before?.ports.find((candidate) => candidate.name === port.name)?.counters;
    const perSecond = (value: number, earlier: number | undefined) =>
      earlier === undefined || seconds <= 0 ? 0 : Math.max(0, (value - earlier) / seconds);
    const c = port.counters;
    return [
      port.name,
      port.state,
      rate(perSecond(c.receivedPackets, old?.receivedPackets), 'pps'),
      rate(perSecond(c.receivedBytes, old?.receivedBytes) * 8, 'bit/s'),
      rate(perSecond(c.transmittedPackets, old?.transmittedPackets), 'pps'),
      rate(perSecond(c.transmittedBytes, old?.transmittedBytes) * 8, 'bit/s'),
      String(port.drops),
    ];
  });
  const parts = [table(['port', 'state', 'in', 'in', 'out', 'out', 'drops'], ports)];
  if (now.drops.length > 0) {
    parts.push(
      table(
        ['drops at', 'reason', 'packets'],
        now.drops.map((drop) => [drop.port, drop.reason, String(drop.packets)]),
      ),
    );
  }
  parts.push(
    table(
      ['address', 'VLAN', 'port', 'seen'],
      now.addresses.map((entry) => [
        entry.mac,
        String(entry.vlan),
        entry.port,
        entry.ageSeconds === null ? 'static' : `${entry.ageSeconds.toFixed(0)} s ago`,
      ]),
    ),
  );
  return parts.join('\n');
}
