/**
 * Properties of ports and of the switch: checked, compiled for trial, sent down the stack, and only then put in force.
 * Neighbours: properties.ts checks them, policies/compile.ts compiles them.
 */

import { SwitchError } from '../errors.ts';
import type { BindingHost } from '../policies/address-binding.ts';
import { compilePolicy } from '../policies/compile.ts';
import type { PortPolicy } from '../policies/port-policy.ts';
import type { Operation } from './operation.ts';
import { type Port, propertyKey } from './port.ts';
import { PortControl } from './port-control.ts';
import {
  checkPortProperty,
  checkSwitchProperty,
  type JsonValue,
  type PortProperty,
  type PortPropertyType,
  type SwitchProperty,
} from './properties.ts';

/** Calls about properties. */
export class PropertyControl extends PortControl {
  /** What the bindings of a port need. */
  #bindingHost({ portId }: Port): BindingHost {
    const { core } = this;
    return {
      nowMs: () => core.host.nowMs(),
      setTimer: core.host.setTimer,
      changed: () => core.pathChanged(portId, false),
      full: (limit) => this.event({ type: 'bindings-full', portId, limit }),
      *all() {
        for (const other of core.ports) if (other?.policy.binding) yield other.policy.binding;
      },
    };
  }

  setPortProperty(portId: number, value: unknown): Operation<void> {
    return this.attempt(() => {
      const port = this.livePort(portId);
      const property = checkPortProperty(value);
      const key = propertyKey(property);
      this.#checkPrivateVlan(port, property);
      this.#compile(port, property);
      const kind = port.properties.has(key) ? 'PORT_PROPERTY_UPDATE' : 'PORT_PROPERTY_ADD';
      return this.issue({ kind, portId, property }, () => {
        // Another property may have changed while an extension pended this one, so it is compiled afresh.
        this.#apply(port, this.#compile(port, property));
        port.properties.set(key, property);
        this.refreshPolicies(portId);
        this.event({ type: 'property', portId: port.portId, property, removed: false });
      });
    });
  }

  deletePortProperty(portId: number, type: PortPropertyType, propertyId?: string): Operation<void> {
    return this.attempt(() => {
      const port = this.livePort(portId);
      const key = type === 'custom' ? `custom:${propertyId ?? ''}` : type;
      const property = port.properties.get(key);
      if (property === undefined) {
        throw new SwitchError('NOT_FOUND', `port ${port.name} has no property ${key}`);
      }
      return this.issue({ kind: 'PORT_PROPERTY_DELETE', portId, property }, () => {
        port.properties.delete(key);
        this.#apply(port, this.#compile(port, null));
        this.refreshPolicies(portId);
        this.event({ type: 'property', portId: port.portId, property, removed: true });
      });
    });
  }

  /** Put a policy in force. What a port without bindings had learned is forgotten. */
  #apply(port: Port, policy: PortPolicy): void {
    const before = port.policy.binding;
    port.policy = policy;
    if (policy.binding === null) before?.forget();
  }

  /** The policy of a port with one property added or replaced. */
  #compile(port: Port, property: PortProperty | null): PortPolicy {
    const properties = new Map(port.properties);
    if (property !== null) properties.set(propertyKey(property), property);
    const isTeamMac = (high: number, low: number): boolean => this.#isTeamMac(high, low);
    return compilePolicy(properties.values(), this.subnets, isTeamMac, this.#bindingHost(port), port.policy);
  }

  /** Whether a MAC address is that of a connected NIC whose port allows teaming. */
  #isTeamMac(high: number, low: number): boolean {
    for (const port of this.core.ports) {
      if (!port?.policy.allowTeaming) continue;
      for (const nic of port.nics) {
        if (nic?.connected && port.policy.macs.owns(nic, high, low) && (high | low) !== 0) return true;
      }
    }
    return false;
  }

  /** A secondary VLAN has one primary and one kind on the whole switch. */
  #checkPrivateVlan(port: Port, property: PortProperty): void {
    if (property.type !== 'vlan' || property.mode !== 'private' || property.privateMode === 'promiscuous') return;
    for (const other of this.core.ports) {
      const vlan = other === port ? undefined : other?.properties.get('vlan');
      if (vlan?.type !== 'vlan' || vlan.mode !== 'private' || vlan.privateMode === 'promiscuous') continue;
      if (vlan.secondaryVlanId !== property.secondaryVlanId) continue;
      if (vlan.primaryVlanId === property.primaryVlanId && vlan.privateMode === property.privateMode) continue;
      throw new SwitchError(
        'INVALID',
        `secondary VLAN ${vlan.secondaryVlanId} is ${vlan.privateMode} under primary VLAN ${vlan.primaryVlanId} on port ${other?.name ?? ''}`,
      );
    }
  }

  addSwitchProperty(value: unknown): Operation<void> {
    return this.#switchProperty('PROPERTY_ADD', value);
  }

  updateSwitchProperty(value: unknown): Operation<void> {
    return this.#switchProperty('PROPERTY_UPDATE', value);
  }

  #switchProperty(kind: 'PROPERTY_ADD' | 'PROPERTY_UPDATE', value: unknown): Operation<void> {
    return this.attempt(() => {
      const property = checkSwitchProperty(value);
      return this.issue({ kind, property }, () => {
        this.miniport.switchProperties.set(property.propertyId, property);
      });
    });
  }

  deleteSwitchProperty(propertyId: string): Operation<void> {
    const known: SwitchProperty = { type: 'custom', propertyId, data: null };
    const property = this.miniport.switchProperties.get(propertyId) ?? known;
    return this.issue({ kind: 'PROPERTY_DELETE', property }, () => {
      this.miniport.switchProperties.delete(propertyId);
    });
  }

  switchProperties(): readonly SwitchProperty[] {
    return [...this.miniport.switchProperties.values()];
  }

  featureStatus(featureId: string, portId?: number): Operation<JsonValue> {
    return this.attempt(() => {
      if (portId !== undefined) this.anyPort(portId);
      const oid =
        portId === undefined
          ? ({ kind: 'FEATURE_STATUS_QUERY', featureId } as const)
          : ({ kind: 'PORT_FEATURE_STATUS_QUERY', portId, featureId } as const);
      return this.issue(oid, ({ output }) => (output ?? null) as JsonValue);
    });
  }
}
