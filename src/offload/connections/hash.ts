/** The keyed hash of a tuple as eBPF, the same as hash.ts of connections/. */
import { type Address, at, R0, R1, R2, R3, R4, R5, R7 } from '../../bpf/index.ts';
import { ControlWord, Kind } from '../../connections/index.ts';
import { Word } from '../../flow/index.ts';
import { emitSipEnd, emitSipStart, emitSipWord, type SipRegisters } from '../actions/sip.ts';
import type { ConnectionCode, TrackSlots } from './code.ts';

const REGISTERS: SipRegisters = { state: [R0, R1, R2, R3], word: R4, scratch: R5 };

/**
 * R0 becomes the hash of the packet's tuple. R7 is the CPU's part of `cpus`, in which the addresses lie; kind and ports are in their slots. R1 to R5
 * are lost.
 */
export function emitTupleHash({ b, maps, key }: ConnectionCode, { kind, ports }: TrackSlots): void {
  const takeIn = (word: Address) => {
    b.load(R4, 'u32', word);
    emitSipWord(b, REGISTERS);
  };
  b.loadMapValue(R5, maps.control);
  b.load(R0, 'u32', at(R5, ControlWord.SECRET * 4));
  b.load(R1, 'u32', at(R5, (ControlWord.SECRET + 1) * 4));
  emitSipStart(b, REGISTERS);
  takeIn(ports);
  b.load(R4, 'u32', kind);
  b.and(R4, Kind.IPV6);
  b.if(
    R4,
    '!=',
    0,
    () => {
      // Source and destination lie side by side.
      for (let i = 0; i < 8; i += 1) takeIn(key(Word.IPV6_SOURCE + i, R7));
    },
    () => {
      takeIn(key(Word.IPV4_SOURCE, R7));
      takeIn(key(Word.IPV4_DESTINATION, R7));
    },
  );
  takeIn(kind);
  emitSipEnd(b, REGISTERS);
  b.mov32(R0, R1);
}
