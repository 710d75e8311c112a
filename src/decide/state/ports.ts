/** The ports of a switch, observed: decisions that go to a port rest on its being there, and floods on all of them. */
import type { PortId } from '../../net/index.ts';
import { ObservedMap } from './table.ts';

/** A port as deciders see it. */
export interface DecidedPort {
  readonly portId: PortId;
  readonly name: string;
}

export class ObservedPorts {
  readonly #byId = new ObservedMap<DecidedPort>('port');
  readonly #byName = new ObservedMap<DecidedPort>('port');

  /** The number of a port; null when there is none of that name. */
  named(name: string): PortId | null {
    return this.#byName.get(name)?.portId ?? null;
  }

  /** The name of a port; null when there is none of that number. */
  nameOf(portId: number): string | null {
    return this.#byId.get(portId)?.name ?? null;
  }

  has(portId: number): boolean {
    return this.#byId.has(portId);
  }

  /** All ports but one: rests on all of them. */
  others(portId: PortId): PortId[] {
    const found: PortId[] = [];
    for (const port of this.all()) if (port.portId !== portId) found.push(port.portId);
    return found.sort((a, b) => a - b);
  }

  /** All ports: rests on all of them. */
  all(): DecidedPort[] {
    return this.#byId.entries().map(([, port]) => port);
  }

  /** Internal: a port is there, or has another name. */
  set(portId: PortId, name: string): void {
    const before = this.#byId.get(portId);
    if (before?.name === name) return;
    if (before !== undefined) this.#byName.delete(before.name);
    const port = { portId, name };
    this.#byId.set(portId, port);
    this.#byName.set(name, port);
  }

  /** Internal: a port is gone. */
  delete(portId: PortId): void {
    const port = this.#byId.get(portId);
    if (port === undefined) return;
    this.#byId.delete(portId);
    if (this.#byName.get(port.name)?.portId === portId) this.#byName.delete(port.name);
  }
}
