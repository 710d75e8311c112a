/** The code of a shape: its checks, then its steps in turn. Each step's code is in the file of its action; writer.ts holds what they share. */
import type { ProgramBuilder } from '../../bpf/index.ts';
import { emitChecks } from './checks.ts';
import type { EmitContext } from './contract.ts';
import type { Shape, Step } from './shape.ts';
import { codeOf } from './steps.ts';
import { ShapeWriter } from './writer.ts';

class StepWriter extends ShapeWriter {
  steps(steps: readonly Step[]): void {
    for (const step of steps) {
      const code = codeOf(step);
      const leavesTrace = code.leavesNoTrace !== true && code.leavesNoTrace !== this.emit.hook;
      code.check?.(this, step);
      if (!this.shown && leavesTrace) {
        this.shown = true;
        this.emit.copyIn?.();
      }
      if (this.shape.checks.undoes && !this.kept && leavesTrace && code.keepsHeaders !== true) {
        this.kept = true;
        this.emit.keepHeaders?.();
      }
      code.emit(this, step);
      this.changed ||= leavesTrace;
    }
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
