/** What ports of users were set to, by name: such a port may go and come back any time. */
import type { Port } from '../config/model.ts';
import { Failure } from '../rpc/failure.ts';

/** Ports of users whose settings are kept. */
const MAXIMUM_PORTS = 4_096;

export class KeptSettings {
  readonly #byName = new Map<string, Port>();

  /** @throws Failure 'refused' when there is no room for those of one more port */
  checkRoom(name: string): void {
    if (this.#byName.has(name) || this.#byName.size < MAXIMUM_PORTS) return;
    throw new Failure('refused', `settings of ${MAXIMUM_PORTS} ports that extensions have added are kept already`);
  }

  set(name: string, config: Port): void {
    this.#byName.set(name, config);
  }

  /** What a port of this name and device was set to before, when it is added again. */
  for(name: string, asked: Port): Port {
    const known = this.#byName.get(name);
    return known !== undefined && known.kind === asked.kind && known.device === asked.device ? known : asked;
  }
}
