/**
 * Stack slots of one function: given out downwards from the frame pointer, aligned, and taken back when the scope they belong to
 * ends. Neighbour: asm/builder.ts has a frame for each function it writes.
 */
import { AssemblyError } from '../errors.ts';
import { STACK_LIMIT_BYTES } from '../uapi/opcodes.ts';
import { type Address, at, R10 } from './operands.ts';

/** Room on the stack, usable as the {@link Address} of its first byte. */
export class Slot implements Address {
  readonly base = R10;
  /** Below the frame pointer: negative. */
  readonly offset: number;
  readonly sizeBytes: number;

  constructor(offset: number, sizeBytes: number) {
    this.offset = offset;
    this.sizeBytes = sizeBytes;
  }

  /**
   * The address of a byte within it.
   * @throws AssemblyError outside it
   */
  at(offsetBytes: number): Address {
    if (offsetBytes < 0 || offsetBytes >= this.sizeBytes) {
      throw new AssemblyError(`byte ${offsetBytes} is outside a stack slot of ${this.sizeBytes} bytes`);
    }
    return at(R10, this.offset + offsetBytes);
  }
}

/** The stack frame of one function. */
export class Frame {
  #used = 0;

  /** How many bytes are given out. */
  get usedBytes(): number {
    return this.#used;
  }

  /**
   * Give out room.
   * @param alignBytes 1, 2, 4 or 8
   * @throws AssemblyError when the 512 bytes of the stack are not enough
   */
  take(sizeBytes: number, alignBytes: number): Slot {
    const end = Math.ceil((this.#used + sizeBytes) / alignBytes) * alignBytes;
    if (sizeBytes <= 0 || end > STACK_LIMIT_BYTES) {
      throw new AssemblyError(
        `no room for ${sizeBytes} bytes on the stack: ${this.#used} of ${STACK_LIMIT_BYTES} are taken`,
      );
    }
    this.#used = end;
    return new Slot(-end, sizeBytes);
  }

  /** Take back all that was given out since `usedBytes` had this value. */
  release(usedBytes: number): void {
    this.#used = usedBytes;
  }
}
