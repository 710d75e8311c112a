/**
 * References of extensions on ports and NICs: taken and given back in pairs, they hold back deletion. A part of the handle (stack/handle.ts), and the one that the others build on.
 */
import { RuleError } from '../errors.ts';
import type { SwitchCore } from '../path/core.ts';
import type { Slot } from '../stack/slot.ts';
import type { Nic } from './nic.ts';
import type { Port } from './port.ts';

/** Those on one port or NIC. */
export class References {
  /** By slot id. */
  readonly #counts = new Map<number, number>();

  /** In all. */
  get count(): number {
    let sum = 0;
    for (const count of this.#counts.values()) sum += count;
    return sum;
  }

  /** Those of one extension. */
  of(slotId: number): number {
    return this.#counts.get(slotId) ?? 0;
  }

  add(slotId: number): void {
    this.#counts.set(slotId, this.of(slotId) + 1);
  }

  /** @returns false when the extension has none */
  remove(slotId: number): boolean {
    const count = this.of(slotId);
    if (count > 1) this.#counts.set(slotId, count - 1);
    else this.#counts.delete(slotId);
    return count > 0;
  }

  /** The extension is gone. */
  forget(slotId: number): void {
    this.#counts.delete(slotId);
  }
}

export class ReferenceCalls {
  protected readonly core: SwitchCore;
  protected readonly slot: Slot;

  /** @param slot of the extension whose handle it is */
  constructor(core: SwitchCore, slot: Slot) {
    this.core = core;
    this.slot = slot;
  }

  /** A port that may be referenced: created and not tearing down. */
  referencePort(portId: number): void {
    const port = portNamed(this.core, portId);
    if (port.state !== 'created')
      throw new RuleError(27, `${this.slot.name} references port ${portId}, which is ${port.state}`);
    port.references.add(this.slot.id);
  }

  dereferencePort(portId: number): void {
    const port = portNamed(this.core, portId);
    if (!port.references.remove(this.slot.id)) {
      throw new RuleError(27, `${this.slot.name} gives back a reference on port ${portId} that it does not have`);
    }
    this.core.waiters?.();
  }

  /** A NIC may be referenced only while it is connected. */
  referenceNic(portId: number, nicIndex: number): void {
    const nic = nicNamed(this.core, portId, nicIndex);
    if (!nic.connected) throw new RuleError(27, `${this.slot.name} references a NIC that is ${nic.state}`);
    nic.references.add(this.slot.id);
  }

  dereferenceNic(portId: number, nicIndex: number): void {
    const nic = nicNamed(this.core, portId, nicIndex);
    if (!nic.references.remove(this.slot.id)) {
      throw new RuleError(
        27,
        `${this.slot.name} gives back a reference on NIC ${nicIndex} of port ${portId} that it does not have`,
      );
    }
    this.core.waiters?.();
  }
}

function portNamed(core: SwitchCore, portId: number): Port {
  const port = portId === 0 ? null : core.ports[portId];
  if (!port) throw new RuleError(27, `there is no port ${portId}`);
  return port;
}

function nicNamed(core: SwitchCore, portId: number, nicIndex: number): Nic {
  const nic = portNamed(core, portId).nics[nicIndex];
  if (!nic) throw new RuleError(27, `there is no NIC ${nicIndex} at port ${portId}`);
  return nic;
}
