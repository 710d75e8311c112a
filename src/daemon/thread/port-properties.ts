/** From one set of policies of a port to another, as calls of the switch: properties are deleted, added and updated one by one. */
import type { PortProperty, VirtualSwitch } from '../../switch/index.ts';
import type { Port } from '../config/model.ts';
import { propertiesOf } from '../config/policies.ts';
import type { Call } from './sequence.ts';
import type { FoundStations } from './stations.ts';

/** Identity of a property among those of one port. */
const keyOf = (property: PortProperty) =>
  property.type === 'custom' ? `custom ${property.propertyId}` : property.type;

/** A configuration, and whom it was found to mean. */
export interface Policies {
  readonly config: Port;
  readonly stations: FoundStations | null;
}

/** The calls that take a port from some policies to others. */
export function propertyCalls(virtualSwitch: VirtualSwitch, id: number, from: Policies, to: Policies): Call[] {
  const wanted = new Map(propertiesOf(to.config, to.stations).map((property) => [keyOf(property), property]));
  const present = new Map(propertiesOf(from.config, from.stations).map((property) => [keyOf(property), property]));
  const calls: Call[] = [];
  for (const [key, property] of present) {
    if (wanted.has(key)) continue;
    const propertyId = property.type === 'custom' ? property.propertyId : undefined;
    calls.push(() => virtualSwitch.deletePortProperty(id, property.type, propertyId));
  }
  for (const [key, property] of wanted) {
    if (JSON.stringify(present.get(key)) === JSON.stringify(property)) continue;
    calls.push(() => virtualSwitch.setPortProperty(id, property));
  }
  return calls;
}
