/**
 * The code of a shape: its checks, then its steps in turn. writer.ts holds what they share; emit-checks.ts, emit-ip.ts, emit-link.ts and
 * emit-hash.ts are its parts.
 */
import { at, type ProgramBuilder, R0, R1, R2, R3, R6, R7, R8, R9, SK_BUFF, XDP } from '../../bpf/index.ts';
import { REDIRECT_MARK } from '../../host/index.ts';
import type { EmitContext } from './contract.ts';
import { emitChecks } from './emit-checks.ts';
import { emitHash } from './emit-hash.ts';
import { emitDecTtl, emitIpv4, emitIpv6, emitPorts } from './emit-ip.ts';
import { emitEthernet, emitPopMpls, emitPopVlan, emitPushMpls, emitPushVlan, emitSetMpls } from './emit-link.ts';
import { emitLength } from './length.ts';
import type { Shape, Step } from './shape.ts';
import { ShapeWriter } from './writer.ts';

/** Steps behind which a packet may still be handed up, as if it had just come. */
const LEAVES_NO_TRACE: ReadonlySet<Step['kind']> = new Set(['hash', 'recirculate', 'length']);

/** Writes the steps of a shape. */
class StepWriter extends ShapeWriter {
  /** Write steps; the last one ends the path. */
  steps(steps: readonly Step[]): void {
    for (const step of steps) this.#step(step);
  }

  #step(step: Step): void {
    // What is too long is for the engine to count, so that this comes before anything that leaves a trace.
    if (step.kind === 'output' && step.last) this.emit.fits?.(at(R7, this.parameter * 4), this.failure);
    if (!this.shown && !LEAVES_NO_TRACE.has(step.kind)) {
      this.shown = true;
      this.emit.copyIn?.();
    }
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
    emit.copyOut?.(ifindex);
    if (this.isTc) {
      this.#mark();
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

  /** The isolation of the port that it leaves through lets it pass. */
  #mark(): void {
    this.b.mov(R1, REDIRECT_MARK);
    this.b.store('u32', at(R6, SK_BUFF.tcIndex), R1);
  }

  #copy(): void {
    const { b, emit } = this;
    const ifindex = this.next();
    const flags = this.next();
    b.block((sent) => {
      b.block((tooLong) => {
        emit.fits?.(ifindex, tooLong);
        emit.observe?.(ifindex);
        emit.copyOut?.(ifindex);
        this.#mark();
        b.load(R2, 'u32', ifindex);
        b.load(R3, 'u32', flags);
        b.mov(R1, R6);
        b.callHelper('clone_redirect');
        b.jumpIf(R0, '==', 0, sent);
      });
      emit.lost?.();
    });
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

  #truncate(): void {
    const { b } = this;
    const limit = this.next();
    emitLength(b, this.isTc);
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

  #length(step: Extract<Step, { kind: 'length' }>): void {
    const { b } = this;
    const limit = this.next();
    emitLength(b, this.isTc);
    b.load(R2, 'u32', limit);
    const { changed, shown, layer3Valid, layer3Moved, window, windowLoaded, hashed } = this;
    b.if(
      R1,
      '>',
      R2,
      () => this.steps(step.longer),
      () => {
        Object.assign(this, { changed, shown, layer3Valid, layer3Moved, window, windowLoaded, hashed });
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
    const writer = new StepWriter(b, shape, emit);
    emitChecks(writer);
    writer.steps(shape.steps);
  });
}
