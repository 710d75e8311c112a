/**
 * The code of a shape: its checks, then its steps in turn. R6 is the context and R7 the parameters throughout; R8 is where layer 3
 * lies (tc: an offset; xdp: an address), R9 what must outlive a call. tc changes packets by the kernel's helpers, which know of
 * partial checksums and shared buffers; xdp writes into the packet. emit-checks.ts, emit-ip.ts, emit-link.ts and emit-hash.ts are its parts.
 */
import {
  type Address,
  at,
  type Label,
  type ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R6,
  R7,
  R8,
  R9,
  SK_BUFF,
  XDP,
} from '../../bpf/index.ts';
import type { EmitContext } from './contract.ts';
import { emitChecks } from './emit-checks.ts';
import { emitHash } from './emit-hash.ts';
import { emitDecTtl, emitIpv4, emitIpv6, emitPorts } from './emit-ip.ts';
import { emitEthernet, emitPopMpls, emitPopVlan, emitPushMpls, emitPushVlan, emitSetMpls } from './emit-link.ts';
import type { Shape, Step } from './shape.ts';

/** Furthest that layer 3 can begin: Ethernet, two tags, LLC and SNAP; with tags that actions add. */
export const LAYER3_MAXIMUM = 62;

/** Writing the code of one shape. */
export class ShapeWriter {
  readonly b: ProgramBuilder;
  readonly shape: Shape;
  readonly emit: EmitContext;
  /** The next parameter, in words. */
  parameter = 0;
  /** Whether something was changed or sent on this path: then nothing can be punted any more. */
  changed = false;
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

  /** Write steps; the last one ends the path. */
  steps(steps: readonly Step[]): void {
    for (const step of steps) this.#step(step);
  }

  #step(step: Step): void {
    switch (step.kind) {
      case 'output':
        if (step.last) this.#output();
        else this.#copy();
        break;
      case 'ethernet':
        emitEthernet(this, step.words);
        break;
      case 'ipv4':
        emitIpv4(this, step);
        break;
      case 'ipv6':
        emitIpv6(this, step);
        break;
      case 'ports':
        emitPorts(this, step);
        break;
      case 'decTtl':
        emitDecTtl(this, step.version);
        break;
      case 'pushVlan':
        emitPushVlan(this, step.onto);
        break;
      case 'popVlan':
        emitPopVlan(this, step.next);
        break;
      case 'pushMpls':
        emitPushMpls(this);
        break;
      case 'popMpls':
        emitPopMpls(this);
        break;
      case 'setMpls':
        emitSetMpls(this, step.word);
        break;
      case 'metadata':
        this.#metadata(step.field);
        break;
      case 'trunc':
        this.#truncate();
        break;
      case 'hash':
        emitHash(this, step.algorithm, step.over);
        break;
      case 'recirculate':
        this.#recirculate();
        return;
      case 'length':
        this.#length(step);
        return;
      case 'drop':
        this.emit.drop(step.reason);
        return;
    }
    this.changed ||= step.kind !== 'hash';
  }

  #output(): void {
    const { b, emit } = this;
    const ifindex = this.next();
    const flags = this.next();
    emit.observe?.(ifindex);
    if (this.isTc) {
      b.load(R1, 'u32', ifindex);
      b.load(R2, 'u32', flags);
      b.callHelper('redirect');
      b.exit();
      return;
    }
    if (emit.devices === undefined) throw new Error('XDP sends through a map of devices');
    b.load(R2, 'u32', ifindex);
    b.loadMap(R1, emit.devices);
    b.mov(R3, XDP.ABORTED);
    b.callHelper('redirect_map');
    b.jumpIf(R0, '!=', XDP.REDIRECT, this.failure);
    b.exit();
  }

  #copy(): void {
    const { b, emit } = this;
    const ifindex = this.next();
    const flags = this.next();
    emit.observe?.(ifindex);
    b.load(R2, 'u32', ifindex);
    b.load(R3, 'u32', flags);
    b.mov(R1, R6);
    b.callHelper('clone_redirect');
    const { lost } = emit;
    if (lost !== undefined) b.if(R0, '!=', 0, () => lost());
  }

  #metadata(field: 'mark' | 'priority'): void {
    const { b } = this;
    const place = at(R6, SK_BUFF[field]);
    const value = this.next();
    const stays = this.next();
    b.load(R1, 'u32', place);
    b.load(R2, 'u32', stays);
    b.and(R1, R2);
    b.load(R2, 'u32', value);
    b.or(R1, R2);
    b.store('u32', place, R1);
  }

  /** R1 becomes the length that the packet has on a wire, tags beside it included. Uses R2. */
  #wireLength(): void {
    const { b } = this;
    if (this.isTc) {
      b.load(R1, 'u32', at(R6, SK_BUFF.len));
      b.load(R2, 'u32', at(R6, SK_BUFF.vlanPresent));
      b.if(R2, '!=', 0, () => b.add(R1, 4));
      return;
    }
    b.packetOfXdp(R6, R2, R1);
    b.sub(R1, R2);
  }

  #truncate(): void {
    const { b } = this;
    const limit = this.next();
    this.#wireLength();
    b.load(R2, 'u32', limit);
    b.block((leave) => {
      b.jumpIf(R1, '<=', R2, leave);
      if (this.isTc) {
        b.load(R3, 'u32', at(R6, SK_BUFF.vlanPresent));
        b.if(R3, '!=', 0, () => b.sub(R2, 4));
        b.mov(R1, R6);
        b.mov(R3, 0);
        b.callHelper('skb_change_tail');
      } else {
        b.sub(R2, R1);
        b.mov(R1, R6);
        b.callHelper('xdp_adjust_tail');
      }
      this.mustBeZero();
    });
    this.layer3Valid = false;
  }

  #recirculate(): void {
    const { b, emit } = this;
    if (emit.recirculate === undefined) throw new Error('nothing to recirculate with');
    if (!this.hashed) b.mov(R9, 0);
    b.load(R8, 'u32', this.next());
    emit.recirculate();
  }

  /** Whether R9 holds a hash. */
  hashed = false;

  #length(step: Extract<Step, { kind: 'length' }>): void {
    const { b } = this;
    const limit = this.next();
    this.#wireLength();
    b.load(R2, 'u32', limit);
    const { changed, layer3Valid, layer3Moved, window, windowLoaded, hashed } = this;
    b.if(
      R1,
      '>',
      R2,
      () => this.steps(step.longer),
      () => {
        Object.assign(this, { changed, layer3Valid, layer3Moved, window, windowLoaded, hashed });
        this.steps(step.otherwise);
      },
    );
  }
}

/**
 * Write the code of a shape: what runs when a packet has hit an entry with it. All paths end.
 * @throws Error when the context lacks what the shape needs (devices for XDP, recirculation)
 */
export function emitShape(b: ProgramBuilder, shape: Shape, emit: EmitContext): void {
  b.scope(() => {
    const writer = new ShapeWriter(b, shape, emit);
    emitChecks(writer);
    writer.steps(shape.steps);
  });
}
