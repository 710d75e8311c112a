/** Frames that a NIC does not send: each is counted once, as dropped, at the port that they were to leave by. */
import { expect, test } from 'vitest';
import type { Packet } from '../../net/index.ts';
import { DropReason, RefusedFrames } from '../index.ts';
import { Bench, frame, TestNic } from '../testing.ts';

/** Takes some frames of a burst and refuses the others when it is flushed. */
class PickyNic extends TestNic {
  readonly refused = new RefusedFrames();
  takes = 0;

  override flush(): void {
    for (const { packet } of this.queued.splice(this.takes)) this.#refuse(packet);
    super.flush();
  }

  #refuse({ length }: Packet): void {
    this.refused.add(DropReason.NIC_QUEUE_FULL, 1, length);
  }
}

function benchOf(backend: TestNic): Bench {
  const bench = new Bench();
  bench.port(1);
  bench.sw.createPort({ portId: 2, name: 'p2' }).result();
  bench.sw.createNic(2, { name: 'nic2', backend }).result();
  bench.sw.connectNic(2).result();
  return bench;
}

test('what a NIC refuses behind a flush is taken out of what was sent', () => {
  const nic = new PickyNic();
  const bench = benchOf(nic);
  nic.takes = 2;
  const frames = Array.from({ length: 5 }, () => frame());
  bench.receive(1, ...frames);
  expect(bench.sw.port(2).counters).toMatchObject({
    transmittedPackets: 2,
    transmittedBytes: 2 * frames[0].length,
    transmitDropped: 3,
    droppedPackets: 3,
  });
  expect(bench.sw.drops(2)).toMatchObject([{ name: 'NIC_QUEUE_FULL', packets: 3 }]);
  expect(bench.sw.counters).toMatchObject({ copiesDelivered: 2, copiesDropped: 3 });
});

test('a NIC whose link is down gets nothing, and gets frames again when it is up', () => {
  const nic = new TestNic();
  const bench = benchOf(nic);
  bench.sw.setNicLink(2, 0, false);
  bench.receive(1, frame());
  expect(nic.sent).toHaveLength(0);
  expect(bench.sw.port(2).counters).toMatchObject({ transmittedPackets: 0, transmitDropped: 1 });
  expect(bench.sw.drops(2)).toMatchObject([{ name: 'NIC_DOWN', packets: 1 }]);
  bench.sw.setNicLink(2, 0, true);
  bench.receive(1, frame());
  expect(nic.sent).toHaveLength(1);
});
