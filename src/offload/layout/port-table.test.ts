import { expect, test } from 'vitest';
import { toInterfaceIndex, toKeyPort } from '../../net/index.ts';
import { MAXIMUM_IFINDEX } from './limits.ts';
import { PortTable } from './port-table.ts';
import { PORT_WORDS, PortWord, TableSizes } from './sizes.ts';

function tableOver(ports: Int32Array): PortTable {
  const sizes = new TableSizes({ entries: 4, keyWords: 4, parameterWords: 2, cpus: 1 });
  const cpus = { u8: new Uint8Array(1 << 17), count: () => 0 };
  return new PortTable({ ports, cpus, sizes } as unknown as ConstructorParameters<typeof PortTable>[0]);
}

test('what programs dropped while no process worked packets off was lost, and is no sign of a port that has too much', () => {
  const ports = new Int32Array((MAXIMUM_IFINDEX + 1) * PORT_WORDS);
  const former = tableOver(ports);
  const ifindex = toInterfaceIndex(7);
  former.set({ ifindex, number: toKeyPort(1), puntIfindex: toInterfaceIndex(9), flags: 0, mtuBytes: 0 });
  const at = ifindex * PORT_WORDS;
  ports[at + PortWord.REFUSED] = 5;
  expect([former.takeRefused(ifindex), former.takeRefused(ifindex)]).toEqual([5, 0]);
  ports[at + PortWord.PUNTED] += 3;
  ports[at + PortWord.REFUSED] += 40;
  const next = tableOver(ports);
  expect(next.adopt()).toEqual([7]);
  expect([next.takeRefused(ifindex), next.takeLost(ifindex), next.takeLost(ifindex)]).toEqual([0, 43, 0]);
  ports[at + PortWord.REFUSED] += 2;
  expect(next.takeRefused(ifindex)).toBe(2);
});
