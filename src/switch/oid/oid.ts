/**
 * OIDs: the control requests that travel down the extension stack, from the protocol edge to the miniport edge.
 * Plain types; oid-path.ts moves them, miniport.ts carries them out.
 */
import { type PortId, toPortId } from '../../net/index.ts';
import type { JsonValue, PortProperty, PortPropertyType, SwitchProperty } from '../control/properties.ts';

/** The source port of packets that nobody's NIC sent: trusted, bypasses policies. */
export const DEFAULT_PORT_ID = toPortId(0);
/** The adapter of a port itself, as opposed to a physical adapter under the external port. */
export const DEFAULT_NIC_INDEX = 0;
/** Physical adapters under the external port are 1 to this. */
export const MAX_NIC_INDEX = 32;
/** Port ids are 1 to this. */
export const MAX_PORT_ID = 65_535;

/** How an OID ended. */
export type Status =
  | 'SUCCESS'
  | 'DATA_NOT_ACCEPTED'
  | 'INVALID_PARAMETER'
  | 'INVALID_LENGTH'
  | 'BUFFER_TOO_SHORT'
  | 'RESOURCES'
  | 'NOT_SUPPORTED'
  | 'FAILURE';

/** `synthetic` and `emulated` belong to guests, `internal` to this host, `external` leads to physical networks. */
export type PortType = 'synthetic' | 'emulated' | 'internal' | 'external';
export type PortState = 'created' | 'tearing-down' | 'deleted';
export type NicState = 'created' | 'connected' | 'disconnected' | 'deleted';

export interface PortParameters {
  readonly portId: PortId;
  readonly name: string;
  readonly type: PortType;
  readonly state: PortState;
}

export interface NicParameters {
  readonly portId: PortId;
  readonly nicIndex: number;
  readonly name: string;
  /** Six bytes. */
  readonly macAddress: Uint8Array;
  readonly mtuBytes: number;
  readonly state: NicState;
}

export interface SwitchParameters {
  readonly name: string;
  readonly active: boolean;
  readonly numSwitchPorts: number;
}

/** What a feature status query returns; null when nobody knows the feature. */
export type FeatureStatus = JsonValue;

/** A request that a NIC makes of another NIC (an OID of its own, wrapped). */
export interface NicRequest {
  readonly sourcePortId: number;
  readonly sourceNicIndex: number;
  readonly destinationPortId: number;
  readonly destinationNicIndex: number;
  /** What is asked, in the requester's terms. */
  readonly name: string;
  readonly data: JsonValue;
}

/** One piece of saved state of a NIC. */
export interface SavedState {
  readonly extensionId: string;
  readonly data: Uint8Array;
}

/** Every OID, by kind. */
export type Oid =
  | { readonly kind: 'PORT_CREATE' | 'PORT_UPDATED' | 'PORT_TEARDOWN' | 'PORT_DELETE'; readonly port: PortParameters }
  | {
      readonly kind: 'NIC_CREATE' | 'NIC_CONNECT' | 'NIC_UPDATED' | 'NIC_DISCONNECT' | 'NIC_DELETE';
      readonly nic: NicParameters;
    }
  | {
      readonly kind: 'PORT_PROPERTY_ADD' | 'PORT_PROPERTY_UPDATE' | 'PORT_PROPERTY_DELETE';
      readonly portId: number;
      readonly property: PortProperty;
    }
  | {
      readonly kind: 'PROPERTY_ADD' | 'PROPERTY_UPDATE' | 'PROPERTY_DELETE';
      readonly property: SwitchProperty;
    }
  | { readonly kind: 'SWITCH_PARAMETERS' | 'PORT_ARRAY' | 'NIC_ARRAY' | 'PROPERTY_ENUM' }
  | { readonly kind: 'PORT_PROPERTY_ENUM'; readonly portId: number; readonly type: PortPropertyType | 'all' }
  | { readonly kind: 'FEATURE_STATUS_QUERY'; readonly featureId: string }
  | { readonly kind: 'PORT_FEATURE_STATUS_QUERY'; readonly portId: number; readonly featureId: string }
  | { readonly kind: 'NIC_REQUEST'; readonly request: NicRequest }
  | {
      readonly kind: 'NIC_SAVE' | 'NIC_SAVE_COMPLETE';
      readonly portId: number;
      readonly nicIndex: number;
    }
  | {
      readonly kind: 'NIC_RESTORE';
      readonly portId: number;
      readonly nicIndex: number;
      readonly saved: SavedState;
    }
  | { readonly kind: 'NIC_RESTORE_COMPLETE'; readonly portId: number; readonly nicIndex: number };

export type OidKind = Oid['kind'];

/** What each query gives. */
export interface QueryValues {
  SWITCH_PARAMETERS: SwitchParameters;
  PORT_ARRAY: readonly PortParameters[];
  NIC_ARRAY: readonly NicParameters[];
  PROPERTY_ENUM: readonly SwitchProperty[];
  PORT_PROPERTY_ENUM: readonly PortProperty[];
  FEATURE_STATUS_QUERY: FeatureStatus;
  PORT_FEATURE_STATUS_QUERY: FeatureStatus;
}

export type QueryKind = keyof QueryValues;
export type QueryOid = Extract<Oid, { kind: QueryKind }>;

/** The answer to a query. */
export interface QueryResult<K extends QueryKind> {
  readonly status: Status;
  /** The value when status is SUCCESS. */
  readonly value: QueryValues[K] | null;
  /** With INVALID_LENGTH: the bytes that the answer needs. */
  readonly bytesNeeded: number;
}

/** An OID under way. Extensions see it in onOid and onOidComplete; they write only what is marked so. */
export interface OidRequest {
  readonly oid: Oid;
  /** Number for logs. */
  readonly sequence: number;
  /** Room for the answer of a query or for save data, in bytes. */
  readonly capacityBytes: number;
  /** Written by who completes a query: the answer. */
  output: unknown;
  /** Written by who completes a save: its own id. */
  extensionId: string;
  /** Written by who completes a save: the data, at most {@link capacityBytes}. */
  saveData: Uint8Array | null;
  /** Written together with INVALID_LENGTH or BUFFER_TOO_SHORT. */
  bytesNeeded: number;
}

/** What onOid says: pass it down, decide later, or complete it with this status (a status other than SUCCESS vetoes). */
export type OidAction = 'forward' | 'pending' | Status;

/** An indication on its way up. */
export interface StatusIndication {
  readonly kind: 'NIC_STATUS';
  readonly portId: number;
  readonly nicIndex: number;
  /** The indication of the adapter itself, such as `link-down`. */
  readonly inner: { readonly name: string; readonly data: JsonValue };
}
