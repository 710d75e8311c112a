import { expect, test } from 'vitest';
import { emptyConfig } from '../config/model.ts';
import { parseConfig } from '../config/parse.ts';
import { type JournalPort, PortJournal } from './port-journal.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('ports that an extension has added are in the journal as those of the configuration are, put down once for many', async () => {
  const written: string[] = [];
  const journal = new PortJournal(
    (ports: readonly JournalPort[]) =>
      void written.push(ports.map(({ name, device }) => `${name}:${device}`).join(' ')),
  );
  const parsed = parseConfig('ports: { a: { device: eth0 } }\n', 'test.yaml');
  journal.runs(parsed);
  for (const name of ['p1', 'p2']) journal.changed({ name, kind: 'netdev', device: name, isThere: true });
  await turn();
  expect(written).toEqual(['a:eth0', 'a:eth0 p1:p1 p2:p2']);
  journal.changed({ name: 'p1', kind: 'netdev', device: 'p1', isThere: false });
  await turn();
  journal.runs(emptyConfig());
  expect(written.slice(2)).toEqual(['a:eth0 p2:p2', 'p2:p2']);
  journal.changed({ name: 'p2', kind: 'netdev', device: 'p2', isThere: false });
  journal.close();
  await turn();
  expect(written).toHaveLength(4);
});
