/**
 * How a tc program hands up a packet that it has changed: with a resume record before the frame, so that the engine goes on where the program could
 * not. flow/resume has the record's layout and its other codec; punt.ts has the punt path.
 */
import { type Address, type Label, type ProgramBuilder, R0, R1, R6 } from '../../bpf/index.ts';
import { RESUME_BYTES, RESUME_VERSION, ResumeByte, ResumePosition, resumeByteOf, Word } from '../../flow/index.ts';
import { network32 } from '../actions/order.ts';

/** Where the program has what goes into a record: 32 bits each, in host order. */
export interface ResumeFields {
  readonly inPort: Address;
  readonly recircId: Address;
  readonly dpHash: Address;
  /** Below 256. */
  readonly passes: Address;
  /** 16 bits; 0 when left out. */
  readonly ticket?: Address;
  /** Further words of the key, by number. */
  readonly words?: readonly (readonly [word: number, place: Address])[];
}

/**
 * Write the code that puts a record before the frame; R6 is the context. Tag, checksums and super-packets stay as they are. R0 to R5 are lost;
 * addresses of fields may lie in all of them but R1.
 * @param failed where a packet goes for which there is no memory
 */
export function emitResumeRecord(b: ProgramBuilder, fields: ResumeFields, failed: Label): void {
  b.scope(() => {
    const record = b.stack(RESUME_BYTES);
    b.zero(record);
    const head = (RESUME_BYTES << 16) | (RESUME_VERSION << 8) | ResumePosition.LOOK_UP;
    b.mov32(R1, network32(head) | 0);
    b.store('u32', record.at(ResumeByte.LENGTH), R1);
    b.load(R1, 'u32', fields.passes);
    b.store('u8', record.at(ResumeByte.PASSES), R1);
    if (fields.ticket !== undefined) {
      b.load(R1, 'u32', fields.ticket);
      b.toBigEndian(R1, 16);
      b.store('u16', record.at(ResumeByte.TICKET), R1);
    }
    for (const [word, place] of [
      [Word.IN_PORT, fields.inPort],
      [Word.RECIRC_ID, fields.recircId],
      [Word.DP_HASH, fields.dpHash],
      ...(fields.words ?? []),
    ] as const) {
      b.load(R1, 'u32', place);
      b.toBigEndian(R1, 32);
      b.store('u32', record.at(resumeByteOf(word)), R1);
    }
    b.call('skb_change_head', R6, RESUME_BYTES, 0);
    b.jumpIf(R0, '!=', 0, failed);
    b.call('skb_store_bytes', R6, 0, record, RESUME_BYTES, 0);
    b.jumpIf(R0, '!=', 0, failed);
  });
}
