/**
 * A port: state, NICs, properties with their compiled form, references, counters and drops. Neighbours: ports are kept
 * and moved through their states by port-control.ts; policies/compile.ts turns properties into {@link PortPolicy}.
 */
import type { PortCounters, PortInfo } from './api.ts';
import { MAX_DROP_REASONS } from './drop-reason.ts';
import type { Nic } from './nic.ts';
import type { PortParameters, PortState, PortType } from './oid.ts';
import { PortPolicy } from './policies/port-policy.ts';
import type { PortProperty } from './properties.ts';

/** One port of the switch. */
export class Port {
  readonly portId: number;
  readonly type: PortType;
  readonly external: boolean;
  name: string;
  state: PortState = 'created';
  /** By NIC index. */
  readonly nics: (Nic | null)[] = [];
  /** The NIC of index 0 while it can be sent to, for hot code. */
  nic: Nic | null = null;
  /** By key: the type, or `custom:<id>`. */
  readonly properties = new Map<string, PortProperty>();
  policy = new PortPolicy();
  /** References of extensions, by slot id. */
  readonly references = new Map<number, number>();
  /** Committed destinations and packets of this port that are on their way; they hold back deletion as references do. */
  pins = 0;
  /** Extensions that forwarded a disconnect of a NIC of this port may not use it any more: slot ids. */
  readonly closedTo = new Set<number>();

  /** By drop reason. */
  readonly drops = new Float64Array(MAX_DROP_REASONS);
  receivedPackets = 0;
  receivedBytes = 0;
  transmittedPackets = 0;
  transmittedBytes = 0;

  constructor(portId: number, name: string, type: PortType) {
    this.portId = portId;
    this.name = name;
    this.type = type;
    this.external = type === 'external';
  }

  /** Whether a packet can be delivered here at all. */
  get reachable(): boolean {
    for (const nic of this.nics) if (nic?.connected) return true;
    return false;
  }

  get referenceCount(): number {
    let sum = 0;
    for (const count of this.references.values()) sum += count;
    return sum;
  }

  nicAt(nicIndex: number): Nic | null {
    return this.nics[nicIndex] ?? null;
  }

  counters(): PortCounters {
    let dropped = 0;
    for (const count of this.drops) dropped += count;
    return {
      receivedPackets: this.receivedPackets,
      receivedBytes: this.receivedBytes,
      transmittedPackets: this.transmittedPackets,
      transmittedBytes: this.transmittedBytes,
      droppedPackets: dropped,
    };
  }

  parameters(): PortParameters {
    return { portId: this.portId, name: this.name, type: this.type, state: this.state };
  }

  info(): PortInfo {
    const nics = [];
    for (const nic of this.nics) if (nic) nics.push(nic.info());
    return {
      ...this.parameters(),
      references: this.referenceCount,
      nics,
      properties: [...this.properties.values()],
      counters: this.counters(),
    };
  }
}

/** The key under which a property is kept on its port. */
export function propertyKey(property: PortProperty): string {
  return property.type === 'custom' ? `custom:${property.propertyId}` : property.type;
}
