/** Extensions that keep packets cost others nothing: what is kept has memory of the switch's own, of which each has a share. */
import { expect, test } from 'vitest';
import type { Batch, Packet } from '../../net/index.ts';
import type { ExtensionHandle, ExtensionType } from '../index.ts';
import { Bench, batchOf, frame, keep, mac } from '../testing.ts';

/** Three ports, and an extension that keeps what comes in by port 1. */
function keeper(type: ExtensionType) {
  const bench = new Bench({ verifyData: false });
  for (const portId of [1, 2, 3]) bench.port(portId);
  const kept: Packet[] = [];
  const handle: ExtensionHandle = bench.enable('keeper', type, (own) => ({
    onIngress: (batch: Batch) => {
      for (const packet of keep(batch).packets) {
        if (own.context(packet).sourcePortId === 1) kept.push(packet);
        else own.sendIngress(batchOf(packet), 0);
      }
    },
  }));
  return { bench, kept, handle };
}

test('what is kept goes on as it was, long after its memory was used again', () => {
  const { bench, kept, handle } = keeper('filtering');
  const frames = [60, 1500, 3000].map((length, n) => frame({ from: mac(n + 4), length, tags: [n + 1] }));
  bench.receive(1, ...frames);
  expect(bench.outstanding).toBe(0);
  // The memory that they came in is written over.
  for (let i = 0; i < 600; i += 1) bench.receive(2, frame({ from: mac(2), length: 3000 }));
  for (const nic of bench.nics.values()) nic.take();
  handle.sendIngress(batchOf(...kept), 0);
  expect(
    bench
      .nicOf(3)
      .take()
      .map((sent) => sent.frame),
  ).toEqual(frames);
  expect(bench.sw.counters.contextsInUse).toBe(0);
});

for (const [type, fate] of [
  ['filtering', { EXTENSION_FULL: 744 }],
  ['capturing', {}],
] as const) {
  test(`a ${type} extension keeps no more than its share; that is said, other ports go on, and it gets more when it has passed some on`, () => {
    const { bench, kept, handle } = keeper(type);
    for (let i = 0; i < 1000; i += 1) bench.receive(1, frame({ from: mac(1) }));
    expect(kept).toHaveLength(256);
    expect(bench.drops(1)).toEqual(fate);
    const said = bench.events.filter((event) => event.type === 'extension-keeps');
    expect(said).toMatchObject([
      { name: 'keeper', packets: 256, message: expect.stringContaining('as many as one may') },
    ]);
    for (const nic of bench.nics.values()) nic.take();
    bench.receive(2, frame({ from: mac(2) }));
    expect(bench.reached()).toEqual([1, 3]);
    handle.sendIngress(batchOf(...kept.splice(0, 100)), 0);
    expect(bench.nicOf(3).take()).toHaveLength(100);
    bench.receive(1, frame());
    expect(kept).toHaveLength(157);
    handle.sendIngress(batchOf(...kept.splice(0)), 0);
    expect(bench.sw.counters.contextsInUse).toBe(0);
    expect(bench.outstanding).toBe(0);
  });
}

test('of super-packets an extension keeps less', () => {
  const { bench, kept } = keeper('filtering');
  for (let i = 0; i < 100; i += 1) bench.receive(1, frame({ from: mac(1), length: 60_000 }));
  expect(kept).toHaveLength(32);
  expect(bench.drops(1)).toEqual({ EXTENSION_FULL: 68 });
});

test('that packets are kept is said after two seconds, and is in what is told of the extension until they have gone on', () => {
  const { bench, kept, handle } = keeper('filtering');
  bench.receive(1, frame());
  const second = () => {
    bench.host.advance(1_000);
    bench.sw.tick();
  };
  second();
  second();
  expect(bench.sw.extensions()).toMatchObject([{ keeps: null }]);
  second();
  second();
  expect(bench.sw.extensions()).toMatchObject([{ keeps: 'it has kept 1 packets for 3 s' }]);
  const said = bench.events.filter((event) => event.type === 'extension-keeps');
  expect(said).toMatchObject([
    { name: 'keeper', message: expect.stringContaining('disabled when it keeps one for 10 s') },
  ]);
  handle.sendIngress(batchOf(...kept), 0);
  second();
  expect(bench.sw.extensions()).toMatchObject([{ keeps: null, enabled: true }]);
});
