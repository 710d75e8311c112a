/** References of extensions on ports and NICs: taken and given back in pairs, they hold back deletion. */

import { RuleError } from '../errors.ts';
import type { SwitchCore } from '../path/core.ts';
import type { Slot } from '../stack/slot.ts';
import type { Nic } from './nic.ts';
import type { Port } from './port.ts';

/** A port that may be referenced: created and not tearing down. */
export function referencePort(core: SwitchCore, slot: Slot, portId: number): void {
  const port = portNamed(core, portId);
  if (port.state !== 'created')
    throw new RuleError(27, `${slot.name} references port ${portId}, which is ${port.state}`);
  add(port.references, slot.id);
}

export function dereferencePort(core: SwitchCore, slot: Slot, portId: number): void {
  const port = portNamed(core, portId);
  if (!remove(port.references, slot.id)) {
    throw new RuleError(27, `${slot.name} gives back a reference on port ${portId} that it does not have`);
  }
  core.waiters?.();
}

/** A NIC may be referenced only while it is connected. */
export function referenceNic(core: SwitchCore, slot: Slot, portId: number, nicIndex: number): void {
  const nic = nicNamed(core, portId, nicIndex);
  if (!nic.connected) throw new RuleError(27, `${slot.name} references a NIC that is ${nic.state}`);
  add(nic.references, slot.id);
}

export function dereferenceNic(core: SwitchCore, slot: Slot, portId: number, nicIndex: number): void {
  const nic = nicNamed(core, portId, nicIndex);
  if (!remove(nic.references, slot.id)) {
    throw new RuleError(
      27,
      `${slot.name} gives back a reference on NIC ${nicIndex} of port ${portId} that it does not have`,
    );
  }
  core.waiters?.();
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

function add(references: Map<number, number>, slotId: number): void {
  references.set(slotId, (references.get(slotId) ?? 0) + 1);
}

function remove(references: Map<number, number>, slotId: number): boolean {
  const count = references.get(slotId) ?? 0;
  if (count === 0) return false;
  if (count === 1) references.delete(slotId);
  else references.set(slotId, count - 1);
  return true;
}
