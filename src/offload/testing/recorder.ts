/** Writes down what a program sends, each time before it does: interface, tag, mark, bytes, into mapped memory. */
import {
  type Address,
  ArrayMap,
  at,
  bytes,
  type ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R4,
  R6,
  SK_BUFF,
} from '../../bpf/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { network16 } from '../actions/order.ts';
import type { Observer } from '../program/plan.ts';

/** Places in a record, in words; then the bytes. */
const Place = { IFINDEX: 0, LENGTH: 1, TAG: 2, TPID: 3, TCI: 4, MARK: 5, PRIORITY: 6, BYTES: 8 } as const;
const FRAME_ROOM = 1024;
const RECORDS = 64;

/** One frame that the program sent, as it is on a wire. */
export interface SentFrame {
  readonly ifindex: number;
  readonly frame: Uint8Array;
  readonly mark: number;
  readonly priority: number;
}

export class Recorder implements Observer {
  readonly #hook: OffloadHook;
  readonly #count = ArrayMap.create({ name: 'sent', value: bytes(8), maxEntries: 1, mappable: true });
  readonly #records = ArrayMap.create({
    name: 'records',
    value: bytes(Place.BYTES * 4 + FRAME_ROOM),
    maxEntries: RECORDS,
    mappable: true,
  });
  /** The maps that its code names. */
  readonly maps = [this.#count, this.#records];
  readonly #sent = this.#count.map();
  readonly #out = this.#records.map();

  constructor(hook: OffloadHook) {
    this.#hook = hook;
  }

  close(): void {
    this.#count.close();
    this.#records.close();
  }

  /** Forget what was sent. */
  reset(): void {
    this.#sent.u32[0] = 0;
  }

  /** What was sent since then. */
  taken(): SentFrame[] {
    return Array.from({ length: Math.min(this.#sent.u32[0], RECORDS) }, (_, i) => this.#record(i));
  }

  #record(index: number): SentFrame {
    const { u32: words, u8 } = this.#out;
    const byte = this.#out.offsetOf(index);
    const read = (place: number) => words[(byte >>> 2) + place];
    const start = byte + Place.BYTES * 4;
    let frame = u8.slice(start, start + read(Place.LENGTH));
    if (read(Place.TAG) !== 0) {
      const tpid = network16(read(Place.TPID));
      const tci = read(Place.TCI);
      const tag = [tpid >>> 8, tpid & 0xff, tci >>> 8, tci & 0xff];
      frame = Uint8Array.from([...frame.subarray(0, 12), ...tag, ...frame.subarray(12)]);
    }
    return { ifindex: read(Place.IFINDEX), frame, mark: read(Place.MARK), priority: read(Place.PRIORITY) };
  }

  /** Write the code of a record. R6 is the context; R0 to R5 are lost. @param ifindex where the interface is told */
  emit(b: ProgramBuilder, ifindex: Address): void {
    const isTc = this.#hook === 'tc';
    b.scope(() => {
      const number = b.stack(4);
      b.loadMapValue(R1, this.#count);
      b.load(R2, 'u32', at(R1));
      b.store('u32', number, R2);
      b.add(R2, 1);
      b.store('u32', at(R1), R2);
      b.lookup(this.#records, number, () => {
        const copy = (place: number, field: number) => {
          b.load(R1, 'u32', at(R6, field));
          b.store('u32', at(R0, place * 4), R1);
        };
        b.load(R1, 'u32', ifindex);
        b.store('u32', at(R0, Place.IFINDEX * 4), R1);
        if (isTc) {
          copy(Place.TAG, SK_BUFF.vlanPresent);
          copy(Place.TPID, SK_BUFF.vlanProto);
          copy(Place.TCI, SK_BUFF.vlanTci);
          copy(Place.MARK, SK_BUFF.mark);
          copy(Place.PRIORITY, SK_BUFF.priority);
          b.load(R4, 'u32', at(R6, SK_BUFF.len));
        } else {
          b.packetOfXdp(R6, R2, R4);
          b.sub(R4, R2);
        }
        b.block((leave) => {
          b.store('u32', at(R0, Place.LENGTH * 4), 0);
          b.jumpIf(R4, '==', 0, leave);
          b.jumpIf(R4, '>', FRAME_ROOM, leave);
          b.store('u32', at(R0, Place.LENGTH * 4), R4);
          b.mov(R3, R0);
          b.add(R3, Place.BYTES * 4);
          b.mov(R2, 0);
          b.mov(R1, R6);
          b.callHelper(isTc ? 'skb_load_bytes' : 'xdp_load_bytes');
        });
      });
    });
  }
}
