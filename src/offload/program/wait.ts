/**
 * Order within a flow, at a hit: a packet whose predecessors may still be on their way through the engine goes up behind them. Order of
 * layout/sizes.ts draws the entry's word for it; table/order.ts is the daemon's side, and says why this is enough. R7 is the entry's address,
 * which stays.
 */
import { at, type Label, R0, R1, R2, R3, R4, R7 } from '../../bpf/index.ts';
import { EntryWord, Order, PortWord, WAITED } from '../layout/sizes.ts';
import { lose } from './end.ts';
import { Found } from './facts.ts';
import { countArrival } from './port.ts';
import type { Stage } from './stage.ts';
import type { ProgramWriter } from './writer.ts';

/** How often a packet tries to be counted at the entry while packets on other CPUs are quicker. */
const TRIES = 8;

/** Order: goes on with packets that are carried; those that wait go up, counted as that. */
export const orderStage: Stage = {
  name: 'order',
  needs: [Found.ENTRY, Found.PORT],
  gives: [Found.ORDERED],
  keeps: [Found.ENTRY, Found.NUMBER],
  emit(writer) {
    inOrder(writer);
    countArrival(writer, 'add');
  },
};

function inOrder(writer: ProgramWriter): void {
  const { b, announced } = writer;
  const order = at(R7, EntryWord.ORDER * 4);
  writer.note('hit: order within the flow');
  b.block((carried) => {
    b.load(R1, 'u32', order);
    b.jumpIf(R1, '==', 0, carried);
    b.load(R2, 'u64', writer.slot(Found.PORT));
    const wait = b.label('wait');
    b.jumpIf(R1, '&', Order.HELD, wait);
    // What was worked off is read before what went up, and what arrived before what was passed on: equal, they say that nothing is on its way.
    const equal = (first: number, second: number, otherwise: Label) => {
      b.load(R3, 'u32', at(R2, first * 4));
      b.load(R4, 'u32', at(R2, second * 4));
      b.jumpIf(R3, '!=', R4, otherwise);
    };
    if (!writer.isTc) equal(PortWord.ARRIVED, PortWord.PASSED, wait);
    equal(PortWord.DRAINED, PortWord.PUNTED, wait);
    b.jump(carried);

    b.place(wait);
    const stopped = b.label('stopped');
    b.jumpIf(R1, '&', Order.STOPPED, stopped);
    writer.note(
      'it waits: first counted at the port, then at the entry, so that whoever sees the second sees the first',
    );
    const announcements = at(R2, (writer.isTc ? PortWord.PUNTED : PortWord.PASSED) * 4);
    b.mov(R3, 1);
    b.atomic('add', 'u32', announcements, R3);
    b.mov(R0, R1);
    const settled = b.label('settled meanwhile');
    for (let attempt = 0; attempt < TRIES; attempt += 1) {
      b.mov(R1, R0);
      b.mov(R3, R0);
      b.add32(R3, WAITED);
      b.atomic('cmpxchg', 'u32', order, R3);
      b.jumpIf(R0, '==', R1, announced);
      b.jumpIf(R0, '==', 0, settled);
    }
    b.mov32(R3, -1);
    b.atomic('add', 'u32', announcements, R3);

    b.place(stopped);
    writer.note('it would have to wait and may not');
    countArrival(writer, 'add');
    lose(writer);

    b.place(settled);
    b.mov32(R3, -1);
    b.atomic('add', 'u32', announcements, R3);
  });
}
