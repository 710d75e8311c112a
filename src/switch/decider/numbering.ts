/** What numbers of ports stand for, as far as decisions rest on it. Neighbour: carried-flows.ts, whose table has numbers of its own. */
import { Anchor } from '../../decide/index.ts';

export class Numbering<From extends number, To extends number> {
  readonly #find: (number: From) => To | -1;
  readonly #known = new Map<From, { readonly anchor: Anchor; found: To | -1 }>();

  /** @param find what a number stands for now; -1 for nothing */
  constructor(find: (number: From) => To | -1) {
    this.#find = find;
  }

  /** What a number stands for, or -1: a decision that is being made rests on it. */
  of(number: From): To | -1 {
    let known = this.#known.get(number);
    if (known === undefined) {
      known = { anchor: new Anchor(`port number ${number}`), found: this.#find(number) };
      this.#known.set(number, known);
    }
    known.anchor.read();
    return known.found;
  }

  /** Numbers may stand for others now: what rests on those ends. */
  changed(): void {
    for (const [number, known] of this.#known) {
      const found = this.#find(number);
      if (found === known.found) continue;
      known.found = found;
      known.anchor.changed();
    }
  }
}
