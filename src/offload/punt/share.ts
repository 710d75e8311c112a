/**
 * A port's share of the punt path, which all ports have together: a program hands up only so many packets that are on their way at a time, and
 * drops the others, counted. So a port that floods cannot keep those of others from coming up. The daemon sets the share
 * (keeper/punts/punt-shares.ts) and counts what has been worked off. Neighbour: punt.ts, behind it.
 */
import { at, type Label, type ProgramBuilder, R1, R2, type Register } from '../../bpf/index.ts';

/** Places of 32-bit words from one address on. */
export interface ShareWords {
  /** Packets that went up. */
  readonly handedUp: number;
  /** Of those, how many were worked off or lost. */
  readonly workedOff: number;
  /** Most packets on their way; 0 for any number. */
  readonly share: number;
  /** Packets that were dropped because there were as many. */
  readonly refused: number;
}

/**
 * Write that a packet, which is counted as going up, goes on only within the share of its port; else its count is taken back, and it goes to `refused`.
 * Uses R1 and R2.
 * @param base holds the address; neither R1 nor R2
 */
export function emitWithinShare(b: ProgramBuilder, base: Register, words: ShareWords, refused: Label): void {
  b.block((within) => {
    b.load(R2, 'u32', at(base, words.workedOff * 4));
    b.load(R1, 'u32', at(base, words.handedUp * 4));
    b.sub32(R1, R2);
    b.load(R2, 'u32', at(base, words.share * 4));
    b.jumpIf(R2, '==', 0, within);
    // A packet that takes its count back at the same time may make the difference negative for a moment.
    b.jumpIf32(R1, 's<=', R2, within);
    b.mov32(R1, -1);
    b.atomic('add', 'u32', at(base, words.handedUp * 4), R1);
    b.mov32(R1, 1);
    b.atomic('add', 'u32', at(base, words.refused * 4), R1);
    b.jump(refused);
  });
}
