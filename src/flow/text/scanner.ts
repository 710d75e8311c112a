/** Reads flow text from left to right. Every complaint says what was wrong and at which character. */

/** Text that is not a flow, a mask or a list of actions. Everything in this folder throws it and nothing else. */
export class FlowTextError extends Error {
  override readonly name = 'FlowTextError';
  /** Index of the character at which it was found. */
  readonly offset: number;

  constructor(reason: string, offset: number) {
    super(`${reason} (at character ${offset + 1})`);
    this.offset = offset;
  }
}

const NUMBER = /0[xX][0-9a-fA-F]+|\d+/y;
const DECIMAL_FRACTION = /\d+(?:\.\d+)?/y;
const SPACE = /\s*/y;
const NAME = /[a-z][a-z0-9_]*/y;

export class Scanner {
  readonly text: string;
  at = 0;

  constructor(text: string) {
    this.text = text;
    this.skipSpace();
  }

  get atEnd(): boolean {
    return this.at >= this.text.length;
  }

  skipSpace(): void {
    this.match(SPACE);
  }

  fail(reason: string): never {
    throw new FlowTextError(reason, this.at);
  }

  failAt(offset: number, reason: string): never {
    throw new FlowTextError(reason, offset);
  }

  /** Step over a piece of text if it comes next. */
  eat(piece: string): boolean {
    if (!this.text.startsWith(piece, this.at)) return false;
    this.at += piece.length;
    return true;
  }

  expect(piece: string): void {
    if (!this.eat(piece)) this.fail(`'${piece}' expected`);
  }

  /** What a sticky pattern matches here, or null. */
  match(pattern: RegExp): string | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) return null;
    this.at += found[0].length;
    return found[0];
  }

  /** A name, or '' where none comes next. */
  name(): string {
    return this.match(NAME) ?? '';
  }

  /** A decimal or hexadecimal number of up to so many bits. */
  number(bits: number): number {
    return Number(this.bigNumber(bits));
  }

  bigNumber(bits: number): bigint {
    const start = this.at;
    const text = this.match(NUMBER);
    if (text === null) return this.fail('a number expected');
    const value = BigInt(text);
    if (value >> BigInt(bits) !== 0n) throw new FlowTextError(`${text} does not fit ${bits} bits`, start);
    return value;
  }

  fraction(): number {
    const text = this.match(DECIMAL_FRACTION);
    return text === null ? this.fail('a number expected') : Number(text);
  }

  /** As {@link list}, of arguments `name=...`: `read` is called behind each '=', with where the name begins. */
  arguments(read: (name: string, start: number) => void): void {
    this.list(() => {
      const start = this.at;
      const name = this.name();
      this.expect('=');
      read(name, start);
    });
  }

  /** A list in parentheses whose opening one has been read: `item` is called before each until the closing one. */
  list(item: () => void): void {
    this.skipSpace();
    if (this.eat(')')) return;
    for (;;) {
      this.skipSpace();
      item();
      this.skipSpace();
      if (this.eat(')')) return;
      this.expect(',');
    }
  }
}
