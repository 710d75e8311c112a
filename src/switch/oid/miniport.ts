/**
 * The miniport edge for OIDs: what reaches it has been let through by every extension and is carried out here. Queries are
 * answered, states of NICs move on. Neighbours: control/port-control.ts issues most OIDs and keeps the books around them.
 */

import { PORT_PROPERTY_TYPES, type PortProperty, type SwitchProperty } from '../control/properties.ts';
import type { SwitchCore } from '../path/core.ts';
import type { NicParameters, NicRequest, Oid, PortParameters, QueryKind, Status, SwitchParameters } from './oid.ts';
import type { OidFlight } from './oid-path.ts';

/** Sizes by which the room for an answer is judged, in bytes: a header, and each record of an array. */
export const RecordSize = { HEADER: 16, SWITCH: 48, PORT: 64, NIC: 96 } as const;

/** Features of the switch itself, by the id that a feature status query names. */
const FEATURES: ReadonlySet<string> = new Set(PORT_PROPERTY_TYPES.filter((type) => type !== 'custom'));

/** Carries out OIDs at the bottom of the stack. */
export class Miniport {
  readonly #core: SwitchCore;
  readonly #name: string;
  readonly switchProperties = new Map<string, SwitchProperty>();

  constructor(core: SwitchCore, name: string) {
    this.#core = core;
    this.#name = name;
  }

  execute(flight: OidFlight): Status {
    const oid = flight.oid;
    switch (oid.kind) {
      case 'NIC_CONNECT':
        return this.#setNicState(oid.nic, 'connected');
      case 'NIC_DISCONNECT':
        // Somebody else may be there when it comes again.
        this.#core.ports[oid.nic.portId]?.policy.macs.forget();
        this.#core.ports[oid.nic.portId]?.policy.binding?.forget();
        return this.#setNicState(oid.nic, 'disconnected');
      case 'PROPERTY_ADD':
        return this.switchProperties.has(oid.property.propertyId) ? 'INVALID_PARAMETER' : 'SUCCESS';
      case 'PROPERTY_UPDATE':
      case 'PROPERTY_DELETE':
        return this.switchProperties.has(oid.property.propertyId) ? 'SUCCESS' : 'INVALID_PARAMETER';
      case 'SWITCH_PARAMETERS':
      case 'PORT_ARRAY':
      case 'NIC_ARRAY':
      case 'PROPERTY_ENUM':
      case 'PORT_PROPERTY_ENUM':
        return this.#answer(flight, oid);
      case 'FEATURE_STATUS_QUERY':
        return this.#switchFeature(flight, oid.featureId);
      case 'PORT_FEATURE_STATUS_QUERY':
        return this.#portFeature(flight, oid.portId, oid.featureId);
      case 'NIC_REQUEST':
        return this.#request(flight, oid.request);
      case 'NIC_RESTORE':
        // Nobody's: reported as unclaimed, not as a failure, as the extension may just not be enabled here.
        flight.output = 'unclaimed';
        return 'SUCCESS';
      default:
        return 'SUCCESS';
    }
  }

  #setNicState(parameters: NicParameters, state: 'connected' | 'disconnected'): Status {
    const nic = this.#core.ports[parameters.portId]?.nics[parameters.nicIndex];
    if (!nic) return 'INVALID_PARAMETER';
    nic.setState(state);
    this.#core.refreshPorts(parameters.portId);
    return 'SUCCESS';
  }

  #answer(flight: OidFlight, oid: Extract<Oid, { kind: QueryKind }>): Status {
    let size: number = RecordSize.HEADER;
    let value: unknown;
    switch (oid.kind) {
      case 'SWITCH_PARAMETERS':
        value = this.parameters();
        size = RecordSize.SWITCH;
        break;
      case 'PORT_ARRAY': {
        const ports = this.#ports();
        value = ports;
        size += ports.length * RecordSize.PORT;
        break;
      }
      case 'NIC_ARRAY': {
        const nics = this.#nics();
        value = nics;
        size += nics.length * RecordSize.NIC;
        break;
      }
      case 'PROPERTY_ENUM': {
        const properties = [...this.switchProperties.values()];
        value = properties;
        size += JSON.stringify(properties).length;
        break;
      }
      case 'PORT_PROPERTY_ENUM': {
        const port = this.#core.ports[oid.portId];
        if (!port) return 'INVALID_PARAMETER';
        const properties: PortProperty[] = [];
        for (const property of port.properties.values()) {
          if (oid.type === 'all' || property.type === oid.type) properties.push(property);
        }
        value = properties;
        size += JSON.stringify(properties).length;
        break;
      }
      default:
        return 'NOT_SUPPORTED';
    }
    if (size > flight.capacityBytes) {
      flight.bytesNeeded = size;
      return 'INVALID_LENGTH';
    }
    flight.output = value;
    return 'SUCCESS';
  }

  parameters(): SwitchParameters {
    return { name: this.#name, active: this.#core.active, numSwitchPorts: this.#ports().length };
  }

  #ports(): PortParameters[] {
    const found: PortParameters[] = [];
    for (const port of this.#core.ports) if (port && port.portId !== 0) found.push(port.parameters());
    return found;
  }

  #nics(): NicParameters[] {
    const found: NicParameters[] = [];
    for (const port of this.#core.ports) {
      if (port) for (const nic of port.nics) if (nic) found.push(nic.parameters());
    }
    return found;
  }

  #switchFeature(flight: OidFlight, featureId: string): Status {
    if (featureId !== 'macTable') return 'NOT_SUPPORTED';
    const table = this.#core.macTable;
    flight.output = { entries: table.count, capacity: table.capacity, ageingSeconds: table.ageingSeconds };
    return 'SUCCESS';
  }

  #portFeature(flight: OidFlight, portId: number, featureId: string): Status {
    const port = this.#core.ports[portId];
    if (!port) return 'INVALID_PARAMETER';
    if (!FEATURES.has(featureId)) return 'NOT_SUPPORTED';
    if (featureId === 'acl') {
      this.#core.settle();
      flight.output = { in: port.policy.aclIn?.hits() ?? [], out: port.policy.aclOut?.hits() ?? [] };
    } else {
      flight.output = { set: port.properties.has(featureId) };
    }
    return 'SUCCESS';
  }

  #request(flight: OidFlight, request: NicRequest): Status {
    const nic = this.#core.ports[request.destinationPortId]?.nics[request.destinationNicIndex];
    if (!nic?.connected) return 'INVALID_PARAMETER';
    if (nic.backend.request === undefined) return 'NOT_SUPPORTED';
    try {
      const answer = nic.backend.request(request);
      flight.output = answer.value ?? null;
      return answer.status;
    } catch (error) {
      this.#core.nicFailed(nic, error);
      return 'FAILURE';
    }
  }
}
