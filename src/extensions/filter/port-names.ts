/**
 * The ids of the switch's ports by name, kept current from the OIDs that pass by. Neighbour: extension.ts, whose rules name ports
 * that may come and go.
 */
import type { ExtensionHandle, OidRequest, Status } from '../../switch/index.ts';

/** Who is where. Ports are asked for once the switch is active; what changes later is told by OIDs. */
export class PortNames {
  readonly ids = new Map<string, number>();
  /** Whether the ports that were there before have been asked for. */
  known = false;
  readonly #handle: ExtensionHandle;

  constructor(handle: ExtensionHandle) {
    this.#handle = handle;
  }

  /** Ask for the ports, if the switch can be asked. @returns whether it was */
  learn(): boolean {
    const parameters = this.#handle.query({ kind: 'SWITCH_PARAMETERS' });
    if (parameters.value === null || !parameters.value.active) return false;
    const ports = this.#handle.query({ kind: 'PORT_ARRAY' });
    if (ports.value === null) return false;
    this.ids.clear();
    for (const { name, portId } of ports.value) this.ids.set(name, portId);
    this.known = true;
    return true;
  }

  /** Note a finished OID. @returns names that changed their meaning */
  note(request: OidRequest, status: Status): readonly string[] {
    const { oid } = request;
    if (status !== 'SUCCESS') return [];
    if (oid.kind !== 'PORT_CREATE' && oid.kind !== 'PORT_UPDATED' && oid.kind !== 'PORT_DELETE') return [];
    const changed: string[] = [];
    for (const [name, portId] of this.ids) {
      if (portId === oid.port.portId) {
        this.ids.delete(name);
        changed.push(name);
      }
    }
    if (oid.kind !== 'PORT_DELETE') {
      this.ids.set(oid.port.name, oid.port.portId);
      changed.push(oid.port.name);
    }
    return changed;
  }
}
