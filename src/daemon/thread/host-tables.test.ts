/** The service `hostTables`: nothing is opened before somebody asks, and everything is closed with the switch. */
import { expect, test } from 'vitest';
import { EventLoop, openDescriptors } from '../../host/index.ts';
import { hostTablesOf, PathQuery, PathState } from '../../net/index.ts';
import { SwitchHostTables } from './host-tables.ts';

test('who asks for tables has them opened, once for each namespace, and nobody else pays', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  const before = openDescriptors();
  const warnings: string[] = [];
  const service = new SwitchHostTables(loop, (message) => warnings.push(message));
  expect(hostTablesOf({ hostTables: service })).toBe(service);
  expect([hostTablesOf(undefined), hostTablesOf({ hostTables: {} })]).toEqual([null, null]);
  expect([openDescriptors(), loop.timers.size, service.describe().size]).toEqual([before, 0, 0]);
  const tables = service.tables();
  expect(service.tables()).toBe(tables);
  const same = service.tablesOf('/proc/self/ns/net');
  expect(service.tablesOf('/proc/self/ns/net')).toBe(same);
  expect([...service.describe().keys()]).toEqual(['', '/proc/self/ns/net']);
  expect(openDescriptors()).toBeGreaterThan(before);
  expect(() => service.tablesOf('/proc/self/ns/nowhere')).toThrow('nowhere');
  const query = new PathQuery();
  query.destination[0] = 0x7f00_0001;
  expect(tables.find(query).state).toBe(PathState.LOCAL);
  service.close();
  service.close();
  expect(openDescriptors()).toBe(before);
  expect(() => service.tables()).toThrow('closed');
  loop.close();
});
