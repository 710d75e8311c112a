/**
 * Commands of an extension's own, as a table: what each takes, does and gives. The table checks arguments and answers what is not known; its type tells whoever
 * calls a command by name what to hand over and what comes back.
 */
import type { JsonValue } from './control/properties.ts';

/** What a schema says about a value. */
type Finding<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | {
      readonly issues: readonly {
        readonly message: string;
        readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
      }[];
    };

/** A schema that checks values from outside at once: of zod, or of any other library that follows Standard Schema (standardschema.dev). */
export interface ValueSchema<Input = unknown, Output = unknown> {
  readonly '~standard': {
    readonly validate: (value: unknown) => Finding<Output> | Promise<Finding<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** One thing wrong with a value from outside. */
export interface Flaw {
  /** Keys and places in lists that lead to it; empty for the whole. */
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** A value from outside is not as it should be. The message has a line for each flaw, which names its field. */
export class FlawsError extends TypeError {
  override readonly name: string = 'FlawsError';
  readonly flaws: readonly Flaw[];

  /** @param lines of the message, where they are not the paths with dots */
  constructor(flaws: readonly Flaw[], lines: readonly string[] = flaws.map(flawText)) {
    super(lines.join('\n'));
    this.flaws = flaws;
  }
}

function flawText({ path, message }: Flaw): string {
  return path.length === 0 ? message : `${path.map(String).join('.')}: ${message}`;
}

/**
 * Check a value from outside.
 * @returns what the schema makes of it
 * @throws FlawsError
 */
export function checkedBy<Output>(schema: ValueSchema<unknown, Output>, value: unknown): Output {
  const found = schema['~standard'].validate(value);
  if (found instanceof Promise) throw new TypeError('its schema would have to be waited for');
  if (found.issues === undefined) return found.value;
  throw new FlawsError(
    found.issues.map(({ message, path = [] }) => ({
      path: path.map((step) => (typeof step === 'object' ? step.key : step)),
      message,
    })),
  );
}

/** A command of an extension whose state is `State`. */
export interface Command<State, Input, Output, Result> {
  /** Checks the arguments; where a caller gives none, an object without any. */
  readonly takes: ValueSchema<Input, Output>;
  /** @throws Error with a sentence for people */
  run(state: State, args: Output): Result;
}

/** Commands by name. */
export type Commands<State> = Readonly<
  Record<string, { readonly takes: ValueSchema; run(state: State, args: never): unknown }>
>;

/**
 * Declare a command.
 * @param takes checks the arguments
 * @param run its result is JSON
 */
export function command<State, Input, Output, Result>(
  takes: ValueSchema<Input, Output>,
  run: (state: State, args: Output) => Result,
): Command<State, Input, Output, Result> {
  return { takes, run };
}

/** What callers give and get, by the name of the command. */
export type CallsOf<Table> = {
  [Name in keyof Table]: Table[Name] extends { takes: ValueSchema<infer Input>; run(...args: never[]): infer Result }
    ? { args: Input; result: Result }
    : never;
};

/**
 * Carry out a command of a table.
 * @throws TypeError for a command or arguments that are not known; what the command throws
 */
export function runCommand<State>(commands: Commands<State>, state: State, name: string, args: JsonValue): JsonValue {
  if (!Object.hasOwn(commands, name)) {
    throw new TypeError(`there is no command "${name}"; there are ${listed(Object.keys(commands))}`);
  }
  const { takes, run } = commands[name] as Command<State, unknown, unknown, JsonValue>;
  return run(state, checkedBy(takes, args ?? {}));
}

function listed(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
