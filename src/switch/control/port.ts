/**
 * A port: state, NICs, properties with their compiled form, references, counters and drops. Neighbours: ports are kept
 * and moved through their states by port-control.ts; policies/compile.ts turns properties into {@link PortPolicy}.
 */
import { type PortId, toPortId } from '../../net/index.ts';
import type { PortCounters, PortInfo } from '../api.ts';
import { MAX_DROP_REASONS } from '../drop-reason.ts';
import type { PortParameters, PortState, PortType } from '../oid/oid.ts';
import { PortPolicy } from '../policies/port-policy.ts';
import type { Nic } from './nic.ts';
import type { PortProperty } from './properties.ts';
import { References } from './references.ts';

/** One port of the switch. */
export class Port {
  readonly portId: PortId;
  readonly type: PortType;
  readonly external: boolean;
  name: string;
  state: PortState = 'created';
  /** Its creation has succeeded. */
  ready = false;
  /** By NIC index. */
  readonly nics: (Nic | null)[] = [null];
  /** Connected physical adapters, index 1 on: a team that index 0 of an external port spreads over. */
  team: Nic[] = [];
  /** Some NIC is connected; kept by {@link refreshNics}. */
  reachable = false;
  /** By key: the type, or `custom:<id>`. */
  readonly properties = new Map<string, PortProperty>();
  policy = new PortPolicy();
  /** References of extensions. */
  readonly references = new References();
  /** Committed destinations and packets of this port that are on their way; they hold back deletion as references do. */
  pins = 0;

  /** By drop reason. */
  readonly drops = new Float64Array(MAX_DROP_REASONS);
  receivedPackets = 0;
  receivedBytes = 0;
  transmittedPackets = 0;
  transmittedBytes = 0;
  /** Copies that were to leave and did not; each is under its reason in {@link drops}. */
  transmitDropped = 0;

  constructor(portId: number, name: string, type: PortType) {
    this.portId = toPortId(portId);
    this.name = name;
    this.type = type;
    this.external = type === 'external';
  }

  /** Count copies that were to leave and do not. */
  countUnsent(reason: number, packets: number): void {
    this.drops[reason] += packets;
    this.transmitDropped += packets;
  }

  /** Recompute what hot code reads, after a NIC changed its state. */
  refreshNics(): void {
    this.team = [];
    this.reachable = false;
    for (const nic of this.nics) {
      if (!nic?.connected) continue;
      this.reachable = true;
      if (nic.nicIndex > 0) this.team.push(nic);
    }
  }

  counters(): PortCounters {
    let dropped = 0;
    for (const count of this.drops) dropped += count;
    return {
      receivedPackets: this.receivedPackets,
      receivedBytes: this.receivedBytes,
      transmittedPackets: this.transmittedPackets,
      transmittedBytes: this.transmittedBytes,
      transmitDropped: this.transmitDropped,
      droppedPackets: dropped,
    };
  }

  parameters(): PortParameters {
    return { portId: this.portId, name: this.name, type: this.type, state: this.state };
  }

  /** @param nowMs for how long bindings last */
  info(nowMs: number): PortInfo {
    const nics = [];
    for (const nic of this.nics) if (nic) nics.push(nic.info());
    return {
      ...this.parameters(),
      references: this.references.count,
      nics,
      properties: [...this.properties.values()],
      counters: this.counters(),
      bindings: this.policy.binding?.list(nowMs) ?? null,
      macAddresses: this.policy.checkSourceMac ? this.policy.macs.list(this.nics[0] ?? null) : null,
    };
  }
}

/** The key under which a property is kept on its port. */
export function propertyKey(property: PortProperty): string {
  return property.type === 'custom' ? `custom:${property.propertyId}` : property.type;
}
