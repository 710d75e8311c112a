/**
 * Extensions that misbehave under traffic, for the soak: each is a filtering extension that lets some packets pass and then does what it should
 * not. The switch disables it, and traffic goes on. Another kind is another line here.
 */

/** What a kind does with a batch, once it has seen enough packets. It may use `batch` and `this`. */
const KINDS: Readonly<Record<string, string>> = {
  'throws an error': `throw new Error('misbehaves')`,
  'throws what is no error': `throw { text: 'no error' }`,
  'rejects a promise': `void Promise.reject(new Error('misbehaves')); throw new Error('misbehaves')`,
  'has a packet twice in its batch': `batch.push(batch.packets[0])`,
  'puts no packet behind one that is': `batch.packets[batch.count] = null as never; batch.count += 1`,
  'clears an attachment': `batch.packets[0].attachment = null`,
  'writes nonsense into a length': `batch.packets[0].length = 1 << 30`,
  'ends the process': `process.exit(3)`,
  'waits for nothing': `setTimeout(() => undefined, 1)`,
};

export const misbehaviours: readonly string[] = Object.keys(KINDS);

/** The module of a kind. */
export function misbehavingModule(kind: string): string {
  return `
import type { Batch } from 'millrace/net';
import type { Extension, ExtensionFactory, ExtensionHandle } from 'millrace/switch';

class Misbehaving implements Extension {
  readonly #handle: ExtensionHandle;
  #seen = 0;
  constructor(handle: ExtensionHandle) {
    this.#handle = handle;
  }
  onIngress(batch: Batch, flags: number): void {
    this.#seen += batch.count;
    if (this.#seen > 3) { ${KINDS[kind]}; }
    this.#handle.sendIngress(batch, flags);
  }
}

const factory: ExtensionFactory<null> = {
  descriptor: { name: 'misbehaving', type: 'filtering', version: '1.0.0' },
  parseConfiguration: () => null,
  create: (handle) => new Misbehaving(handle),
};
export default factory;
`;
}
