/** What the next daemon reads is what this one wrote, and nothing that is damaged makes it do something. */
import { expect, test } from 'vitest';
import type { Json } from '../../offload/index.ts';
import { type LinksData, readLinksData, writeLinksData } from './links-manifest.ts';

const data: LinksData = {
  namespace: 'net:[4026531840]',
  addresses: new Map([
    [7, '0257000000aa'],
    [8, '0257000000bb'],
  ]),
  changes: [
    { ifindex: 7, address: '0257000000aa', changes: ['up', 'promiscuous', 'gro'] },
    { ifindex: 8, address: '0257000000bb', changes: ['promiscuous'] },
  ],
};

test('what is written is read', () => {
  expect(readLinksData(JSON.parse(JSON.stringify(writeLinksData(data))) as Json)).toEqual(data);
});

test('1,024 interfaces fit into the manifest', () => {
  const indexes = Array.from({ length: 1024 }, (_, index) => 64_000 + index);
  const address = '0257000000aa';
  const many: LinksData = {
    ...data,
    addresses: new Map(indexes.map((ifindex) => [ifindex, address])),
    changes: indexes.map((ifindex) => ({ ifindex, address, changes: ['up', 'promiscuous', 'gro'] })),
  };
  expect(JSON.stringify(writeLinksData(many)).length).toBeLessThan(60_000);
});

test('what makes no sense is refused; changes of a later version are left to it', () => {
  const { namespace } = data;
  const bad: readonly Json[] = [
    null,
    [],
    { namespace },
    { namespace, addresses: [[7]] },
    { namespace, addresses: [], changes: 'up' },
    { namespace, addresses: [], changes: [[7, 'aa']] },
    { namespace, addresses: [], changes: [['7', 'aa', 1]] },
  ];
  for (const one of bad) expect(readLinksData(one), JSON.stringify(one)).toBeNull();
  expect(readLinksData({ namespace, addresses: [], changes: [[7, 'aa', 0xff01]] })?.changes).toEqual([
    { ifindex: 7, address: 'aa', changes: ['up'] },
  ]);
});
