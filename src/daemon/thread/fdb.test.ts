import { expect, test } from 'vitest';
import type { Extension } from '../config/model.ts';
import type { ConfiguredStack } from './configured-stack.ts';
import { ForwardingDatabase } from './fdb.ts';
import type { DatapathPorts } from './ports.ts';

function databaseOf(): ForwardingDatabase {
  const stack = { running: () => false } as unknown as ConfiguredStack;
  const ports = { all: () => [] } as unknown as DatapathPorts;
  return new ForwardingDatabase(stack, ports);
}

const learning = (config: Record<string, unknown>): Extension => ({
  name: 'learning',
  module: null,
  config,
  enabled: true,
});

test('static entries of the database and of the settings of learning are both in force, the database last', () => {
  const database = databaseOf();
  const [mine, theirs] = [
    { mac: '02:00:00:00:00:01', vlan: 0, port: 'a' },
    { mac: '02:00:00:00:00:02', vlan: 0, port: 'b' },
  ];
  database.addStatic(mine);
  expect(database.settingsFor(learning({})).static).toEqual([mine]);
  expect(database.settingsFor(learning({ static: [theirs] })).static).toEqual([theirs, mine]);
  expect(database.settingsFor(learning({ static: 'none' })).static).toBe('none');
});
