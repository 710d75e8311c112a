/**
 * What all pieces of a shape's code share. R6 is the context and R7 the parameters throughout; R8 is where layer 3 lies (tc: an offset;
 * xdp: an address), R9 what must outlive a call. tc changes packets by the kernel's helpers, which know of partial checksums and shared
 * buffers; xdp writes into the packet. emit.ts is the door.
 */
import { type Address, at, type Label, type ProgramBuilder, R0, R1, R2, R3, R6, R7, R8 } from '../../bpf/index.ts';
import type { EmitContext } from './contract.ts';
import type { Shape, Step } from './shape.ts';

/** Furthest that layer 3 can begin: Ethernet, two tags, LLC and SNAP; with tags that actions add. */
export const LAYER3_MAXIMUM = 62;

/** Flag of bpf_skb_store_bytes: no checksum field makes up for the change, so the sum over all of the packet has to follow. */
export const RECOMPUTE = 1;

/** Writing the code of one shape. */
export abstract class ShapeWriter {
  readonly b: ProgramBuilder;
  readonly shape: Shape;
  readonly emit: EmitContext;
  /** The next parameter, in words. */
  parameter = 0;
  /** Whether something was changed or sent on this path: then nothing can be punted any more. */
  changed = false;
  /** Whether a copy was made of the packet as it came in, if any is wanted. */
  shown = false;
  /** Whether its headers were kept, where they are. */
  kept = false;
  /** xdp: whether R8 is a checked address; it is lost when the packet's start moves. */
  layer3Valid = false;
  /** xdp: how far layer 3 has moved. */
  layer3Moved = 0;
  /** tc: a copy of the IP header on the stack, kept like the packet. */
  window: Address | null = null;
  windowLoaded = false;

  constructor(b: ProgramBuilder, shape: Shape, emit: EmitContext) {
    this.b = b;
    this.shape = shape;
    this.emit = emit;
  }

  /** Write steps; the last one ends the path. */
  abstract steps(steps: readonly Step[]): void;

  get isTc(): boolean {
    return this.emit.hook === 'tc';
  }

  /** The place of the next parameter. */
  next(): Address {
    const place = at(R7, this.parameter * 4);
    this.parameter += 1;
    return place;
  }

  /** Where a packet goes whose change failed. */
  get failure(): Label {
    return this.changed ? this.emit.failed : this.emit.punt;
  }

  /** Behind a helper that answers 0 when it worked. */
  mustBeZero(): void {
    this.b.jumpIf(R0, '!=', 0, this.failure);
  }

  /** xdp: load the packet's bounds and make sure of bytes from its start. */
  packet(lengthBytes: number): void {
    this.b.packetOfXdp(R6, R1, R2);
    this.b.needBytes(R1, R2, lengthBytes, R3, this.failure);
  }

  /** xdp: R8 as the address of layer 3, with all the bytes that the shape needs of it. Uses R1 to R3. */
  layer3(): void {
    if (this.layer3Valid) return;
    const { b } = this;
    b.load(R8, 'u32', this.emit.layer3);
    b.jumpIf(R8, '>', LAYER3_MAXIMUM, this.failure);
    b.jumpIf(R8, '<', 14, this.failure);
    if (this.layer3Moved !== 0) b.add(R8, this.layer3Moved);
    b.packetOfXdp(R6, R1, R2);
    b.add(R8, R1);
    b.needBytes(R8, R2, Math.max(this.shape.checks.layer3Bytes, 4), R3, this.failure);
    this.layer3Valid = true;
  }

  /** xdp: the packet's start has moved, by this many bytes away from layer 3. */
  moved(bytes: number): void {
    this.layer3Moved += bytes;
    this.layer3Valid = false;
  }

  /** Whether R9 holds a hash. */
  hashed = false;
}
