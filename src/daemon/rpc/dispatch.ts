/**
 * JSON-RPC 2.0: from a line of text to a line of text. Knows nothing of sockets (server.ts) and nothing of switches
 * (../control/): it parses, validates with zod, calls, and turns whatever happens into a well-formed reply.
 */
import { z } from 'zod';
import { FAILURE_CODES, Failure, toFailure } from './failure.ts';
import { flawOf } from './plain-data.ts';

/** Most requests in one batch. */
export const MAX_BATCH = 256;

/** One method: what it takes, and what it does. `Context` is the connection that asks. */
export interface Method<Context> {
  readonly params: z.ZodType;
  /** It takes the connection over, so it cannot be one of a batch. */
  readonly takesOver?: boolean;
  /** Called with parameters that `params` has accepted. */
  call(params: unknown, context: Context): unknown;
}

const idSchema = z.union([z.string().max(256), z.number(), z.null()]);
const requestSchema = z.strictObject({
  jsonrpc: z.literal('2.0'),
  id: idSchema.optional(),
  method: z.string().max(128),
  params: z.unknown().optional(),
});

type Id = z.infer<typeof idSchema>;

function reply(id: Id, result: unknown): object {
  return { jsonrpc: '2.0', id, result: result === undefined ? null : result };
}

function failureReply(id: Id, failure: Failure): object {
  const data: Record<string, unknown> = { kind: failure.kind };
  if (failure.hint !== null) data.hint = failure.hint;
  return { jsonrpc: '2.0', id, error: { code: FAILURE_CODES[failure.kind], message: failure.message, data } };
}

/** Say in one sentence what zod found wrong with the parameters. */
function describeIssues(method: string, error: z.ZodError): string {
  const first = error.issues[0];
  const where = first.path.length === 0 ? 'the parameters' : `"${first.path.map(String).join('.')}"`;
  return `parameters of ${method}: ${where}: ${first.message}`;
}

/** Answers lines of text by calling methods. */
export class Dispatcher<Context> {
  readonly #methods: ReadonlyMap<string, Method<Context>>;
  readonly #onInternal: (method: string, error: unknown) => void;

  /**
   * @param onInternal told of whatever a method throws that is not a {@link Failure}: a fault of ours, to be logged
   */
  constructor(methods: ReadonlyMap<string, Method<Context>>, onInternal: (method: string, error: unknown) => void) {
    this.#methods = methods;
    this.#onInternal = onInternal;
  }

  /**
   * Answer one line.
   * @returns the reply's text without newline, or null when nothing is to be answered (notifications)
   */
  async answer(line: string, context: Context): Promise<string | null> {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      return JSON.stringify(failureReply(null, new Failure('parse-error', 'this line is not JSON')));
    }
    const flaw = flawOf(message);
    if (flaw !== null) {
      return JSON.stringify(failureReply(null, new Failure('invalid-request', `this request ${flaw}`)));
    }
    if (!Array.isArray(message)) {
      const single = await this.#one(message, context, false);
      return single === null ? null : this.#text(single);
    }
    if (message.length === 0 || message.length > MAX_BATCH) {
      const failure = new Failure(
        'invalid-request',
        `a batch holds 1 to ${MAX_BATCH} requests, this one ${message.length}`,
      );
      return JSON.stringify(failureReply(null, failure));
    }
    const replies: object[] = [];
    for (const item of message) {
      const single = await this.#one(item, context, true);
      if (single !== null) replies.push(single);
    }
    return replies.length === 0 ? null : this.#text(replies);
  }

  async #one(message: unknown, context: Context, isInBatch: boolean): Promise<object | null> {
    const request = requestSchema.safeParse(message);
    if (!request.success) {
      return failureReply(null, new Failure('invalid-request', 'not a JSON-RPC 2.0 request with "method"'));
    }
    const { id, method: name, params } = request.data;
    if (isInBatch && this.#methods.get(name)?.takesOver === true) {
      const hint = 'send it alone, on a connection of its own';
      return failureReply(id ?? null, new Failure('invalid-request', `${name} cannot be one of a batch`, hint));
    }
    const result = await this.#call(name, params, id ?? null, context);
    return id === undefined ? null : result;
  }

  async #call(name: string, params: unknown, id: Id, context: Context): Promise<object> {
    const method = this.#methods.get(name);
    if (method === undefined) {
      const known = `the daemon knows ${[...this.#methods.keys()].sort().join(', ')}`;
      return failureReply(id, new Failure('method-not-found', `there is no method "${name}"`, known));
    }
    const checked = method.params.safeParse(params ?? {});
    if (!checked.success) return failureReply(id, new Failure('invalid-params', describeIssues(name, checked.error)));
    try {
      return reply(id, await method.call(checked.data, context));
    } catch (error) {
      if (error instanceof Failure) return failureReply(id, error);
      this.#onInternal(name, error);
      return failureReply(id, toFailure(error, 'internal'));
    }
  }

  #text(value: object): string {
    try {
      return JSON.stringify(value);
    } catch (error) {
      this.#onInternal('reply', error);
      return JSON.stringify(failureReply(null, new Failure('internal', 'the reply could not be written')));
    }
  }
}
