/**
 * The miniport edge for OIDs: what reaches it has been let through by every extension and is carried out here. Queries are
 * answered, states of NICs move on. Neighbours: control/port-control.ts issues most OIDs and keeps the books around them.
 */

import { PORT_PROPERTY_TYPES, type PortProperty, type SwitchProperty } from '../control/properties.ts';
import type { SwitchCore } from '../path/core.ts';
import type { NicParameters, NicRequest, PortParameters, Status, SwitchParameters } from './oid.ts';
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
        return answer(flight, this.parameters(), RecordSize.SWITCH);
      case 'PORT_ARRAY':
        return answerList(flight, this.#ports(), RecordSize.PORT);
      case 'NIC_ARRAY':
        return answerList(flight, this.#nics(), RecordSize.NIC);
      case 'PROPERTY_ENUM':
        return answerProperties(flight, [...this.switchProperties.values()]);
      case 'PORT_PROPERTY_ENUM': {
        const all = this.#core.ports[oid.portId]?.properties;
        if (all === undefined) return 'INVALID_PARAMETER';
        const wanted = [...all.values()].filter(({ type }) => oid.type === 'all' || oid.type === type);
        return answerProperties(flight, wanted);
      }
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

/** Answer a query, if there is room for it. */
function answer(flight: OidFlight, value: unknown, sizeBytes: number): Status {
  if (sizeBytes > flight.capacityBytes) {
    flight.bytesNeeded = sizeBytes;
    return 'INVALID_LENGTH';
  }
  flight.output = value;
  return 'SUCCESS';
}

function answerList(flight: OidFlight, records: readonly unknown[], recordBytes: number): Status {
  return answer(flight, records, RecordSize.HEADER + records.length * recordBytes);
}

function answerProperties(flight: OidFlight, properties: readonly PortProperty[]): Status {
  return answer(flight, properties, RecordSize.HEADER + JSON.stringify(properties).length);
}
