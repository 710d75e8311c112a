/** Connections as data, and filters. */
import { expect, test } from 'vitest';
import { describeConnection, describeRecord } from './describe.ts';
import { type ConnectionFilter, connectionFilter } from './filter.ts';
import { Status } from './layout.ts';
import { TcpState } from './tcp-state.ts';
import { echo, end, tcp, udp } from './testing/frames.ts';
import { Lab } from './testing/lab.ts';

const source = { addresses: ['198.51.100.1', '198.51.100.1'], ports: [7, 7] } as const;

function world(): Lab {
  const lab = new Lab();
  const label = { value: [1, 0, 0, 0xffff_fffe], mask: [-1, 0, 0, -1] };
  lab.send(tcp(end('10.0.0.1', 4000), end('192.0.2.9', 80), 'S'), { commit: true, zone: 3, nat: { source } }, 9);
  lab.send(udp(end('fd00::1', 1), end('fd00::2', 53)), { commit: true, mark: { value: 5, mask: 7 }, label });
  lab.send(udp(end('fd00::2', 53), end('fd00::1', 1)));
  lab.send(echo(end('10.0.0.1', 77), end('10.0.0.2')), { commit: true });
  return lab;
}

test('a connection says all that is known of it', () => {
  const { table } = world();
  expect(describeConnection(table, 1)).toEqual({
    id: 1,
    zone: 3,
    version: 4,
    protocol: 6,
    original: { source: '10.0.0.1', destination: '192.0.2.9', sourcePort: 4000, destinationPort: 80 },
    reply: { source: '192.0.2.9', destination: '198.51.100.1', sourcePort: 80, destinationPort: 7 },
    state: 'SYN_SENT',
    status: Status.CONFIRMED | Status.SOURCE_NAT,
    mark: 0,
    label: '0'.repeat(32),
    leftMs: 120_000,
    port: 9,
  });
  const { mark, label, status } = describeConnection(table, 2);
  expect([mark, label, status & Status.SEEN_REPLY]).toEqual([5, '000000010000000000000000fffffffe', Status.SEEN_REPLY]);
  expect(describeRecord(table.records, table.at(3)).original).toEqual({
    source: '10.0.0.1',
    destination: '10.0.0.2',
    identifier: 77,
    type: 8,
    code: 0,
  });
  expect(TcpState.SYN_SENT).toBe(1);
});

test.each<[ConnectionFilter, number[]]>([
  [{}, [1, 2, 3]],
  [{ zone: 3 }, [1]],
  [{ zone: 4 }, []],
  [{ protocol: 17 }, [2]],
  [{ version: 4 }, [1, 3]],
  [{ source: '10.0.0.1' }, [1, 3]],
  [{ destination: 'fd00::2' }, [2]],
  [{ address: '198.51.100.1' }, [1]],
  [{ sourcePort: 4000 }, [1]],
  [{ destinationPort: 53 }, [2]],
  [{ sourcePort: 77 }, []],
  [{ port: 7 }, [1]],
  [{ port: 1 }, [2]],
  [{ source: '10.0.0.0/8' }, [1, 3]],
  [{ source: '0.0.0.0/0' }, [1, 3]],
  [{ source: '10.0.0.2/31' }, []],
  [{ destination: 'fd00::/8' }, [2]],
  [{ address: '198.51.100.0/24' }, [1]],
  [{ id: 2 }, [2]],
  [{ nat: 'source' }, [1]],
  [{ nat: 'destination' }, []],
  [{ nat: 'any' }, [1]],
  [{ nat: 'none' }, [2, 3]],
  [{ state: 'syn_sent' }, [1]],
  [{ state: 'SYN_SENT' }, [1]],
  [{ mark: { value: 4, mask: 4 } }, [2]],
  [{ isReplied: true }, [2]],
  [{ isReplied: false, version: 4, protocol: 1 }, [3]],
])('the filter %j picks the connections %j', (filter, wanted) => {
  const { table } = world();
  const isWanted = connectionFilter(filter);
  const picked: number[] = [];
  table.walk(1, 100, (record) => {
    if (isWanted(table.records, table.at(record))) picked.push(record);
  });
  expect(picked).toEqual(wanted);
  expect(table.flush((record) => isWanted(table.records, table.at(record)))).toBe(wanted.length);
  expect(table.size).toBe(3 - wanted.length);
});

test('filters that cannot be are refused in words', () => {
  expect(() => connectionFilter({ source: '10.0.0.1/8' })).toThrow(/bits set behind its prefix length/);
  expect(() => connectionFilter({ address: 'here' })).toThrow(/neither an IPv4 nor an IPv6 address/);
  expect(() => connectionFilter({ mark: { value: 1, mask: 2 } })).toThrow(/bits set outside its mask/);
  expect(() => connectionFilter({ mark: { value: 0x8000_0001, mask: 0x8000_0001 } })).not.toThrow();
  expect(() => connectionFilter({ state: 'SLEEPING' })).toThrow(
    /no state "SLEEPING"; states of TCP and SCTP are SYN_SENT,/,
  );
});
