/** The link watch against the running kernel: every change of a device is seen once, and lost notifications are made up for. */
import { afterEach, expect, test } from 'vitest';
import {
  EventLoop,
  type LinkEvent,
  LinkWatch,
  NetworkNamespace,
  pollLinks,
  SystemError,
  withRouteClient,
} from '../src/host/index.ts';
import { getNamespaceId, parseNamespaceId } from '../src/netlink/index.ts';
import { eventually, type Host, Lab } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

function watchIn(host: Host, options: { receiveBufferBytes?: number } = {}): LinkWatch {
  return lab.own(host.inside(() => new LinkWatch(options)));
}

/** Events as short sentences: 'changed eth0 mtuBytes'. */
function words(events: readonly LinkEvent[]): string[] {
  return events.map((event) =>
    [event.type, event.link.name, ...(event.type === 'changed' ? event.changes : [])].join(' '),
  );
}

test('devices come, are renamed, go down and up, change MTU and MAC address, get a master, and go', async () => {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'eth0', b, 'far');
  const watch = watchIn(a);
  expect([...watch.links.values()].map((link) => link.name).sort()).toEqual(['eth0', 'lo']);
  expect(watch.byName('eth0')).toMatchObject({
    up: true,
    carrier: true,
    mtuBytes: 1500,
    kind: 'veth',
    hardwareType: 1,
  });

  const after = (line: string): string[] => {
    a.ip(line);
    return words(watch.process());
  };
  expect(after('link set eth0 mtu 1400')).toEqual(['changed eth0 mtuBytes']);
  expect(after('link set eth0 address 02:00:00:00:00:77')).toEqual(['changed eth0 macAddress']);
  expect(after('link set eth0 down')).toEqual(['changed eth0 up carrier']);
  expect(after('link set eth0 name wan')).toEqual(['changed wan name']);
  expect(after('link set wan up').join()).toMatch(/up.*carrier/);
  expect(after('link add br0 type bridge')).toEqual(['added br0']);
  expect(after('link set wan master br0')).toContain('changed wan masterIndex');
  expect(watch.byName('wan')?.masterIndex).toBe(watch.byName('br0')?.index);
  // The bridge tells that its port was "deleted", which the device is not.
  const freed = after('link set wan nomaster');
  expect(freed).toContain('changed wan masterIndex');
  expect(freed).not.toContain('removed wan');
  a.ip('link delete br0');
  watch.process();
  b.ip('link set far down');
  // The kernel takes its time, up to a second, to tell of a carrier.
  await eventually('the carrier is lost', () => words(watch.process()).includes('changed wan carrier'));
  expect(watch.byName('wan')?.carrier).toBe(false);
  b.ip('link delete far');
  expect(words(watch.process()).at(-1)).toBe('removed wan');
  expect(watch.byName('wan')).toBeNull();
  expect(after('link add wan type veth peer name wan2').sort()).toEqual(['added wan', 'added wan2']);
});

test('when notifications were lost, the difference is reported', () => {
  const [a] = lab.hosts(1);
  withinVeths(a, 4);
  const watch = watchIn(a, { receiveBufferBytes: 4096 });
  const before = watch.byName('v0');
  for (let i = 0; i < 40; i += 1) a.ip(`link set v0 mtu ${1300 + i}`);
  a.ip('link delete v1');
  a.ip('link add late type bridge');
  expect(watch.byName('v0')).toBe(before);
  const events = watch.process();
  expect(words(events)).toContain('removed v1');
  expect(words(events)).toContain('added late');
  expect(watch.byName('v0')?.mtuBytes).toBe(1339);
  // The point of it: far fewer events than changes.
  expect(events.filter((event) => event.link.name === 'v0').length).toBeLessThan(39);
  expect(watch.process()).toEqual([]);
});

function withinVeths(host: Host, count: number): void {
  for (let i = 0; i < count; i += 1) host.ip(`link add v${i} type veth peer name w${i}`);
}

test('it wakes an event loop, and can be polled from Node', async () => {
  const [a] = lab.hosts(1);
  withinVeths(a, 1);
  const watch = watchIn(a);
  const seen: string[] = [];
  const loop = new EventLoop({ busyPollUs: 0 });
  loop.add(watch.fileDescriptor, { onReady: () => void seen.push(...words(watch.process())), onError: () => {} });
  a.ip('link set v0 mtu 1280');
  expect(loop.poll(2000)).toBe(true);
  expect(seen).toEqual(['changed v0 mtuBytes']);
  loop.close();

  const stop = pollLinks(watch, (event) => seen.push(...words([event])), 10);
  a.ip('link set v0 mtu 1281');
  await eventually('the second event', () => seen.length === 2);
  stop();
});

test('on an event loop, which takes the error of a socket that overflows, the difference is reported as well', () => {
  const [a] = lab.hosts(1);
  withinVeths(a, 3);
  const watch = watchIn(a, { receiveBufferBytes: 4096 });
  const seen: string[] = [];
  const loop = lab.own(new EventLoop({ busyPollUs: 0 }));
  loop.add(watch.fileDescriptor, {
    onReady: () => void seen.push(...words(watch.process())),
    onError: () => void seen.push(...words(watch.lost())),
  });
  for (let i = 0; i < 40; i += 1) a.ip(`link set v0 mtu ${1300 + i}`);
  a.ip('link delete v1');
  while (loop.poll(0));
  expect(seen).toContain('removed v1');
  expect(watch.byName('v0')?.mtuBytes).toBe(1339);
});

test('the client makes, changes, finds and deletes links, and passes on what the kernel says of mistakes', () => {
  const [a, b] = lab.hosts(2);
  a.inside(() =>
    withRouteClient((client) => {
      client.createVeth('left', { name: 'right', mtuBytes: 1300 }, { mtuBytes: 1300, up: true });
      expect(client.link('left')).toMatchObject({ name: 'left', mtuBytes: 1300 });
      client.changeLink('right', { up: true, macAddress: new Uint8Array([2, 0, 0, 0, 0, 9]), name: 'east' });
      expect(a.ip('link show east')).toMatch(/UP.*mtu 1300[\s\S]*02:00:00:00:00:09/);
      expect(client.findLink('right')).toBeNull();
      expect(client.links().length).toBe(3);
      client.deleteLink('left');
      expect(client.findLink('east')).toBeNull();

      const failure = (action: () => void): SystemError => {
        try {
          action();
        } catch (error) {
          if (error instanceof SystemError) return error;
        }
        throw new Error('it did not fail');
      };
      expect(failure(() => client.link('nowhere'))).toMatchObject({ code: 'ENODEV', call: 'rtnetlink' });
      client.createVeth('left', { name: 'right' });
      const tooLong = failure(() => client.changeLink('left', { mtuBytes: 70_000 }));
      expect(tooLong.code).toBe('EINVAL');
      expect(tooLong.message).toMatch(/mtu greater than device maximum/);
      expect(failure(() => client.createVeth('left', { name: 'x' })).code).toBe('EEXIST');
    }),
  );
  expect(b.ip('-o link show').split('\n').filter(Boolean)).toHaveLength(1);
});

test('features that change at a veth are heard of by its index, here and where its other end is', () => {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'eth0', b, 'far');
  const heard: number[] = [];
  const watch = lab.own(a.inside(() => new LinkWatch({ elsewhere: true, heard: (index) => heard.push(index) })));
  const indexOf = (host: Host, name: string) => host.inside(() => withRouteClient((client) => client.link(name).index));
  for (const [host, name] of [
    [a, 'eth0'],
    [b, 'far'],
  ] as const) {
    watch.process();
    heard.length = 0;
    host.run('ethtool', ['-K', name, 'tx', 'off']);
    expect(watch.process()).toEqual([]);
    expect(heard).toContain(indexOf(host, name));
  }
});

test('a device that leaves for another namespace tells its index and namespace there, and one that is deleted that it has none', () => {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'eth0', b, 'far');
  lab.veth(a, 'eth1', b, 'far1');
  const watch = watchIn(a);
  const moved = (events: readonly LinkEvent[]) =>
    events.map((event) => (event.type === 'removed' ? event.movedTo : event.type)).filter((to) => to !== 'changed');
  a.ip(`link set eth0 netns ${b.name}`);
  const index = b.inside(() => withRouteClient((client) => client.link('eth0').index));
  const there = NetworkNamespace.byName(b.name);
  const namespaceId = a.inside(() =>
    withRouteClient((client) => parseNamespaceId(client.request(getNamespaceId(there.fileDescriptor))[0])),
  );
  there.close();
  expect(moved(watch.process())).toEqual([{ index, namespaceId }]);
  a.ip('link delete eth1');
  expect(moved(watch.process())).toEqual([null]);
});
