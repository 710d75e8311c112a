/**
 * Carry out the steps from one configuration to another, all or none: when one fails, those before it are undone in reverse order,
 * so that the switch is what it was.
 */
import type { Operation, Step } from '../config/diff.ts';
import { Failure, messageOf, toFailure } from '../rpc/failure.ts';

/** Carries out one operation. */
export type Operate = (operation: Operation) => Promise<unknown>;

/**
 * Apply steps in order.
 * @throws Failure naming the step that failed, why, and what became of the others
 */
export async function applySteps(steps: readonly Step[], operate: Operate): Promise<void> {
  const done: Step[] = [];
  for (const step of steps) {
    try {
      await operate(step.operation);
      done.push(step);
    } catch (error) {
      const failure = toFailure(error);
      const lost = await undo(done, operate);
      const before = done.length === 0 ? '' : '; what was applied before it has been taken back';
      const after =
        lost.length === 0 ? before : `; taking back what was applied before it failed too: ${lost.join('; ')}`;
      const alone = steps.length === 1 && lost.length === 0;
      const message = alone ? failure.message : `cannot ${step.text}: ${failure.message}${after}`;
      throw new Failure(failure.kind, message, failure.hint);
    }
  }
}

/** Take steps back, last first, going on after failures. */
async function undo(done: readonly Step[], operate: Operate): Promise<string[]> {
  const failures: string[] = [];
  for (const step of [...done].reverse()) {
    try {
      await operate(step.undo);
    } catch (error) {
      failures.push(`${step.text}: ${messageOf(error)}`);
    }
  }
  return failures;
}
