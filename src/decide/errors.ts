/** What a decider did that no decision can hold. */

/** A decider contradicts itself, or the packet: it has no such header, there is no such port, what is set does not fit. */
export class DecisionError extends Error {
  override readonly name = 'DecisionError';
}
