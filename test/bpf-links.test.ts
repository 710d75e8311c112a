/** Links and filters on real interfaces: attaching, order, atomic exchange, adoption, and never displacing what is there. */
import { afterEach, expect, test } from 'vitest';
import {
  ArrayMap,
  AttachConflictError,
  adoptClsact,
  at,
  attachClsact,
  attachTc,
  attachTcx,
  attachXdp,
  Link,
  loadProgram,
  NoInterfaceError,
  type Program,
  ProgramBuilder,
  queryNetdev,
  queryTcx,
  queryXdp,
  R1,
  R2,
  TC,
  UnsupportedError,
  u64,
  unpin,
  XDP,
} from '../src/bpf/index.ts';
import { BpfFileSystem } from './support/bpf-fs.ts';
import { type Host, Lab } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

/** Two hosts that can ping each other. */
function wired(): { a: Host; b: Host } {
  const [a, b] = lab.hosts(2);
  if (a === undefined || b === undefined) throw new Error('no hosts');
  lab.veth(a, 'eth0', b, 'eth0');
  a.address('eth0', '10.0.0.1/24');
  b.address('eth0', '10.0.0.2/24');
  return { a, b };
}

function xdpProgram(verdict: number, name = 'xdp_prog'): Program {
  const b = new ProgramBuilder(name);
  b.return(verdict);
  return lab.own(loadProgram({ type: 'xdp', code: b }));
}

/** A TC program that appends its digit to a shared number, and so shows the order in which programs ran. */
function orderedProgram(digit: number, order: ArrayMap<bigint>, verdict: number = TC.NEXT): Program {
  const b = new ProgramBuilder(`digit_${digit}`);
  b.loadMapValue(R1, order);
  b.load(R2, 'u64', at(R1));
  b.mul(R2, 10);
  b.add(R2, digit);
  b.store('u64', at(R1), R2);
  b.return(verdict);
  return lab.own(loadProgram({ type: 'sched_cls', code: b }));
}

test.each(['driver', 'generic'] as const)(
  'XDP in %s mode drops and passes, is exchanged in place, and goes',
  (mode) => {
    const { a, b } = wired();
    const link = b.inside(() => attachXdp({ program: xdpProgram(XDP.DROP, 'dropper'), netdev: 'eth0', mode }));
    expect(b.inside(() => queryXdp('eth0'))).toMatchObject({ mode, name: 'dropper', linkId: link.info().id });
    expect(a.ping('10.0.0.2', { count: 1, timeoutMs: 300 })).toBe(false);
    const passer = xdpProgram(XDP.PASS);
    link.update(passer);
    expect(a.ping('10.0.0.2')).toBe(true);
    expect(() => link.update(xdpProgram(XDP.DROP), xdpProgram(XDP.DROP))).toThrow(AttachConflictError);
    link.update(xdpProgram(XDP.DROP), passer);
    expect(a.ping('10.0.0.2', { count: 1, timeoutMs: 300 })).toBe(false);
    link.close();
    expect(b.inside(() => queryXdp('eth0'))).toBeUndefined();
    expect(a.ping('10.0.0.2')).toBe(true);
  },
);

test('a second XDP program is refused by the name of the first, which stays', () => {
  const { b } = wired();
  b.inside(() => {
    const first = lab.own(attachXdp({ program: xdpProgram(XDP.PASS, 'the_first'), netdev: 'eth0' }));
    expect(() => attachXdp({ program: xdpProgram(XDP.DROP), netdev: 'eth0' })).toThrow(AttachConflictError);
    expect(() => attachXdp({ program: xdpProgram(XDP.DROP), netdev: 'eth0' })).toThrow(/program "the_first"/);
    expect(queryXdp('eth0')?.linkId).toBe(first.info().id);
  });
});

test('interfaces that are not there, or have no XDP of their own, are told apart', () => {
  const { b } = wired();
  b.inside(() => {
    expect(() => attachXdp({ program: xdpProgram(XDP.PASS), netdev: 'eth7' })).toThrow(NoInterfaceError);
    expect(() => attachXdp({ program: xdpProgram(XDP.PASS), netdev: 999_999 })).toThrow(NoInterfaceError);
    expect(() => attachTcx({ program: orderedOf(), netdev: 999_999, direction: 'ingress' })).toThrow(NoInterfaceError);
    expect(() => attachXdp({ program: xdpProgram(XDP.PASS), netdev: 'lo', mode: 'driver' })).toThrow(UnsupportedError);
    const link = attachXdp({ program: xdpProgram(XDP.PASS), netdev: 'lo' });
    expect(queryXdp('lo')?.mode).toBe('generic');
    link.close();
  });
});

function orderedOf(): Program {
  return orderedProgram(1, lab.own(ArrayMap.create({ name: 'order', value: u64, maxEntries: 1 })));
}

test('a link whose interface vanished says so on update, and closes quietly', () => {
  const { b } = wired();
  const xdp = b.inside(() => attachXdp({ program: xdpProgram(XDP.PASS), netdev: 'eth0' }));
  const tcx = b.inside(() => attachTcx({ program: orderedOf(), netdev: 'eth0', direction: 'ingress' }));
  b.ip('link del eth0');
  expect(xdp.info().ifindex).toBe(0);
  expect(() => xdp.update(xdpProgram(XDP.DROP))).toThrow(NoInterfaceError);
  expect(() => tcx.update(orderedOf())).toThrow(NoInterfaceError);
  xdp.detach();
  tcx.detach();
  xdp.close();
  tcx.close();
  expect(() => xdp.info()).toThrow(/link on eth0 \(XDP\) is closed/);
});

test('TCX programs run in the order they were asked to, beside those of others', () => {
  const { a, b } = wired();
  const order = lab.own(ArrayMap.create({ name: 'order', value: u64, maxEntries: 1, mappable: true }));
  const values = order.map().u64;
  const programs = [1, 2, 3, 4, 5].map((digit) => orderedProgram(digit, order));
  const [one, two, three, four, five] = programs;
  if (!one || !two || !three || !four || !five) throw new Error('no programs');
  b.inside(() => {
    const on = { netdev: 'eth0', direction: 'ingress' } as const;
    const first = lab.own(attachTcx({ ...on, program: one }));
    lab.own(attachTcx({ ...on, program: two, position: 'last' }));
    lab.own(attachTcx({ ...on, program: three, position: 'first' }));
    lab.own(attachTcx({ ...on, program: four, position: { before: first } }));
    lab.own(attachTcx({ ...on, program: five, position: { after: { programId: one.info().id } } }));
    const list = queryTcx('eth0', 'ingress');
    expect(list?.programs.map(({ name }) => name)).toEqual(['digit_3', 'digit_4', 'digit_1', 'digit_5', 'digit_2']);
    expect(list?.programs.every(({ linkId }) => linkId !== undefined)).toBe(true);
  });
  values[0] = 0n;
  a.ping('10.0.0.2', { count: 1 });
  expect(String(values[0])).toMatch(/^34152/);
});

test('a TCX list that changed meanwhile, a foreign anchor, and a program twice are conflicts', () => {
  const { b } = wired();
  const order = lab.own(ArrayMap.create({ name: 'order', value: u64, maxEntries: 1 }));
  const [one, two, stranger] = [1, 2, 3].map((digit) => orderedProgram(digit, order));
  if (!one || !two || !stranger) throw new Error('no programs');
  b.inside(() => {
    const on = { netdev: 'eth0', direction: 'egress' } as const;
    const seen = queryTcx('eth0', 'egress')?.revision ?? 0;
    lab.own(attachTcx({ ...on, program: one, expectedRevision: seen }));
    expect(() => attachTcx({ ...on, program: two, expectedRevision: seen })).toThrow(/not at revision/);
    expect(() => attachTcx({ ...on, program: two, position: { before: stranger } })).toThrow(AttachConflictError);
    expect(() => attachTcx({ ...on, program: one })).toThrow(/in the list already/);
    expect(queryTcx('eth0', 'egress')?.programs).toHaveLength(1);
  });
});

test('clsact filters do without TCX: own place, exchange in place, adoption, and nothing left behind', () => {
  const { a, b } = wired();
  const order = lab.own(ArrayMap.create({ name: 'order', value: u64, maxEntries: 1, mappable: true }));
  const values = order.map().u64;
  b.inside(() => {
    const on = { netdev: 'eth0', direction: 'ingress' } as const;
    const first = attachClsact({ ...on, program: orderedProgram(1, order) });
    const second = attachClsact({ ...on, program: orderedProgram(2, order) });
    expect([first.place.priority, second.place.priority]).toEqual([1, 2]);
    expect(() => attachClsact({ ...on, program: orderedProgram(3, order), priority: 2 })).toThrow(AttachConflictError);
    expect(queryNetdev('eth0').clsact.ingress.map(({ name }) => name)).toEqual(['digit_1', 'digit_2']);
  });
  a.ping('10.0.0.2', { count: 1 });
  expect(String(values[0])).toMatch(/^12/);
  b.inside(() => {
    const adopted = adoptClsact('eth0', 'ingress', 1);
    expect(adoptClsact('eth0', 'ingress', 9)).toBeUndefined();
    adopted?.update(orderedProgram(7, order, TC.SHOT));
    expect(adopted?.info()?.name).toBe('digit_7');
  });
  expect(a.ping('10.0.0.2', { count: 1, timeoutMs: 300 })).toBe(false);
  b.inside(() => {
    adoptClsact('eth0', 'ingress', 1)?.detach();
    adoptClsact('eth0', 'ingress', 2)?.detach();
  });
  expect(a.ping('10.0.0.2')).toBe(true);
});

test('a clsact discipline that was ours goes with its last filter, and one that was not stays', () => {
  const { b } = wired();
  const on = { netdev: 'eth0', direction: 'egress' } as const;
  const disciplines = () => b.run('tc', ['qdisc', 'show', 'dev', 'eth0']);
  const filter = b.inside(() => attachClsact({ ...on, program: orderedOf() }));
  expect(disciplines()).toContain('clsact');
  b.inside(() => filter.detach());
  b.inside(() => filter.detach());
  expect(disciplines()).not.toContain('clsact');
  b.run('tc', ['qdisc', 'add', 'dev', 'eth0', 'clsact']);
  const guest = b.inside(() => attachClsact({ ...on, program: orderedOf() }));
  b.inside(() => guest.detach());
  expect(disciplines()).toContain('clsact');
  b.ip('link del eth0');
  expect(() => b.inside(() => attachClsact({ ...on, program: orderedOf() }))).toThrow(NoInterfaceError);
});

test('TC attaches by TCX where the kernel has it', () => {
  const { b } = wired();
  b.inside(() => {
    const attached = attachTc({ program: orderedOf(), netdev: 'eth0', direction: 'ingress' });
    expect(attached.kind).toBe('tcx');
    if (attached.kind === 'tcx') attached.link.close();
  });
});

test('pinned links and programs outlive their process, and are adopted by type', () => {
  const { a, b } = wired();
  const pins = new BpfFileSystem();
  lab.onClose(() => pins.close());
  const link = b.inside(() => attachXdp({ program: xdpProgram(XDP.DROP, 'persistent'), netdev: 'eth0' }));
  link.pin(pins.at('link'));
  link.close();
  expect(a.ping('10.0.0.2', { count: 1, timeoutMs: 300 })).toBe(false);
  expect(() => Link.open(pins.at('link'), 'tcx')).toThrow(/is xdp, not tcx/);
  expect(() => Link.open(pins.at('nothing'), 'xdp')).toThrow(/ENOENT/);
  const adopted = Link.open(pins.at('link'), 'xdp');
  adopted.update(xdpProgram(XDP.PASS));
  expect(a.ping('10.0.0.2')).toBe(true);
  unpin(pins.at('link'));
  adopted.close();
  expect(b.inside(() => queryXdp('eth0'))).toBeUndefined();
});

test('what others attached is seen and left alone, whatever tool they used', () => {
  const { b } = wired();
  const pins = new BpfFileSystem();
  lab.onClose(() => pins.close());
  const program = xdpProgram(XDP.PASS, 'foreign');
  program.pin(pins.at('foreign'));
  orderedOf().pin(pins.at('foreign_tc'));
  b.ip(`link set dev eth0 xdpgeneric pinned ${pins.at('foreign')}`);
  b.run('tc', ['qdisc', 'add', 'dev', 'eth0', 'clsact']);
  b.run('tc', ['filter', 'add', 'dev', 'eth0', 'ingress', 'prio', '1', 'bpf', 'da', 'pinned', pins.at('foreign_tc')]);
  b.inside(() => {
    const programs = queryNetdev('eth0');
    expect(programs.xdp).toEqual({ mode: 'generic', programId: program.info().id, name: 'foreign', linkId: undefined });
    expect(programs.clsact.ingress).toMatchObject([{ name: 'digit_1', priority: 1 }]);
    expect(() => attachXdp({ program: xdpProgram(XDP.DROP), netdev: 'eth0' })).toThrow(/"foreign"/);
    expect(attachClsact({ program: orderedOf(), netdev: 'eth0', direction: 'ingress' }).place.priority).toBe(2);
    expect(queryXdp('eth0')?.name).toBe('foreign');
  });
});
