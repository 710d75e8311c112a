/**
 * The control interface of the switch: what a daemon, a test or a simulation calls. switch.ts implements it.
 */
import type { Batch, Packet, PortId } from '../net/index.ts';
import type { Operation } from './control/operation.ts';
import type { JsonObject, JsonValue, PortProperty, PortPropertyType, SwitchProperty } from './control/properties.ts';
import type { DropReasonInfo } from './drop-reason.ts';
import type { ExtensionDescriptor, ExtensionFactory, ExtensionState, HostServices } from './extension.ts';
import type { NicRequest, NicState, PortState, PortType, SavedState, Status, StatusIndication } from './oid/oid.ts';
import type { RefusedFrames } from './path/refused.ts';
import type { BindingInfo } from './policies/address-binding.ts';

/** Where packets leave; an Adapter fits. */
export interface NicBackend {
  /** Queue a frame. Its memory stays as it is until flush returns. @param tag a TagAction with the TCI in its low bits */
  transmit(packet: Packet, tag: number): void;
  flush(): void;
  /** Optional: frames that were queued and are not sent, noted by when flush returns. The switch clears it. */
  readonly refused?: RefusedFrames;
  /** Optional: answer a NIC request. */
  request?(request: NicRequest): { readonly status: Status; readonly value?: JsonValue };
}

export interface SwitchOptions {
  readonly name: string;
  readonly host: HostServices;
  /** Most packets inside the switch at once, held ones included. Default 16,384. */
  readonly maxContexts?: number;
  /** MAC addresses that the switch's own forwarding learns. Default 16,384. */
  readonly macTableCapacity?: number;
  /** Ageing of the switch's own forwarding, in seconds. Default 300. */
  readonly macAgeingSeconds?: number;
  /** Forward 01:80:c2:00:00:0x instead of dropping it. Default false. */
  readonly forwardLinkLocal?: boolean;
  /** The switch itself forwards NVGRE from the external port (rule 25). Default true. */
  readonly hybridForwarding?: boolean;
  /** Packets that extensions may allocate or copy at once, and their size. Default 1,024 of 2,048 bytes. */
  readonly extensionPackets?: number;
  readonly extensionPacketBytes?: number;
  /** Hash frames around extension calls to catch changes that rules 4 and 18 forbid. Slow; for development. */
  readonly verifyData?: boolean;
}

export interface PortOptions {
  /** 1 to 65,535; left out: the lowest free one. */
  readonly portId?: number;
  /** Unique on the switch. */
  readonly name: string;
  /** Default synthetic. At most one external port. */
  readonly type?: PortType;
}

export interface NicOptions {
  /** Default 0; 1 to 32 on the external port. */
  readonly nicIndex?: number;
  readonly name: string;
  /** Six bytes; left out: zeros, and a port that forbids spoofing then accepts nothing. */
  readonly macAddress?: Uint8Array;
  /** Largest layer-3 packet; 0 or left out: not checked. */
  readonly mtuBytes?: number;
  readonly backend: NicBackend;
}

/** Traffic of a port, seen from the switch: received came in through it. */
export interface PortCounters {
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  readonly transmittedPackets: number;
  readonly transmittedBytes: number;
  /** Copies that were to leave through it and did not, as it is down, they are too long, or its NIC failed; in droppedPackets as well. */
  readonly transmitDropped: number;
  /** Sum of all drop reasons. */
  readonly droppedPackets: number;
}

export interface NicInfo {
  readonly nicIndex: number;
  readonly name: string;
  readonly macAddress: string;
  readonly mtuBytes: number;
  readonly state: NicState;
  readonly references: number;
}

export interface PortInfo {
  readonly portId: PortId;
  readonly name: string;
  readonly type: PortType;
  readonly state: PortState;
  readonly references: number;
  readonly nics: readonly NicInfo[];
  readonly properties: readonly PortProperty[];
  readonly counters: PortCounters;
  /** Source MAC addresses that are let in; null: any. */
  readonly macAddresses: readonly string[] | null;
  /** IP addresses that are bound to it; null: any may be used. */
  readonly bindings: readonly BindingInfo[] | null;
}

export interface DropCount extends DropReasonInfo {
  readonly packets: number;
}

/** Packets through the switch. received = delivered + dropped + consumed + the ones inside (contextsInUse of NIC origin). */
export interface SwitchCounters {
  /** Packets that came in from NICs. */
  readonly received: number;
  /** Packets that extensions originated, clones included. */
  readonly originated: number;
  /** Packets of which at least one copy went to a NIC. */
  readonly delivered: number;
  /** Packets of which no copy went anywhere, for a named reason. */
  readonly dropped: number;
  /** Packets that an extension ended after making clones of them. */
  readonly consumed: number;
  /** Copies handed to NICs. */
  readonly copiesDelivered: number;
  /** Copies that a policy or an extension excluded. */
  readonly copiesDropped: number;
  /** Packets inside the switch now. */
  readonly contextsInUse: number;
}

export interface ExtensionInfo extends ExtensionDescriptor {
  readonly state: ExtensionState;
  readonly enabled: boolean;
  /** Place in the stack from the top, 0 on; -1 when not enabled. */
  readonly position: number;
  /** Packets that it holds now. */
  readonly heldPackets: number;
  /** How long it has kept packets, a sentence; null when that is nothing to speak of. */
  readonly keeps: string | null;
  readonly counters: Readonly<Record<string, number>>;
  /** Why it was disabled, when it failed. */
  readonly failure: string | null;
}

/** One step of a trace. */
export interface TraceStep {
  /** `ingress`, `policy`, an extension's name, `forwarding`, `egress`, `delivery`. */
  readonly stage: string;
  readonly text: string;
  /** Of a step whose text names its port: the text before and behind it. Steps that are alike but for the port have the same. */
  readonly aroundPort?: readonly [string, string];
  /** The step drops the packet, or its copy to `portId`. */
  readonly drop?: string;
  readonly portId?: PortId;
  readonly nicIndex?: number;
  /** At delivery: what happens to the VLAN tag. */
  readonly tag?: string;
  /** At delivery: the program that gets the packet. */
  readonly handedTo?: string;
}

export type SwitchEvent =
  | { readonly type: 'port'; readonly portId: PortId; readonly state: PortState }
  | { readonly type: 'nic'; readonly portId: PortId; readonly nicIndex: number; readonly state: NicState }
  | { readonly type: 'property'; readonly portId: PortId; readonly property: PortProperty; readonly removed: boolean }
  | { readonly type: 'extension'; readonly name: string; readonly state: ExtensionState }
  | {
      readonly type: 'extension-failed';
      readonly name: string;
      readonly error: Error;
      /** Handler or call that failed. */
      readonly where: string;
      /** Packets that it held: dropped, or passed on for a capturing extension. */
      readonly heldPackets: number;
    }
  /** It has kept packets for long, or keeps as many as it may; `message` goes on from its name. */
  | { readonly type: 'extension-keeps'; readonly name: string; readonly packets: number; readonly message: string }
  | { readonly type: 'misuse'; readonly name: string; readonly rule: number; readonly message: string }
  | { readonly type: 'nic-failed'; readonly portId: PortId; readonly nicIndex: number; readonly error: Error }
  /** A port has learned as many addresses as its bindings may have, none gives way, and one more was not bound. Told once per port and setting. */
  | { readonly type: 'bindings-full'; readonly portId: PortId; readonly limit: number }
  /**
   * The address table of the switch's own forwarding is full: new addresses take the place of those that the port that has most has not seen for
   * longest. Told at most once a minute.
   */
  | { readonly type: 'addresses-full'; readonly portId: PortId; readonly addresses: number; readonly capacity: number }
  | { readonly type: 'status'; readonly indication: StatusIndication };

/** A Hyper-V extensible switch. Calls that change something may be pended by an extension; see Operation. */
export interface VirtualSwitch {
  readonly name: string;
  readonly active: boolean;
  readonly counters: SwitchCounters;

  /** Let traffic flow and arrays be queried. */
  activate(): Operation<void>;

  createPort(options: PortOptions): Operation<PortId>;
  /** Rename. */
  updatePort(portId: number, changes: { readonly name: string }): Operation<void>;
  /** Stop new references and properties; NICs must be deleted before. */
  teardownPort(portId: number): Operation<void>;
  /** Held back by references and packets on their way. */
  deletePort(portId: number): Operation<void>;
  /** Disconnect and delete the NICs, tear down, delete: whatever is left to do. */
  removePort(portId: number): Operation<void>;

  createNic(portId: number, options: NicOptions): Operation<void>;
  connectNic(portId: number, nicIndex?: number): Operation<void>;
  updateNic(
    portId: number,
    nicIndex: number,
    changes: { readonly name?: string; readonly mtuBytes?: number; readonly macAddress?: Uint8Array },
  ): Operation<void>;
  /** The link behind a NIC went down or came up; it stays connected, and what is to leave by it while it is down is dropped. */
  setNicLink(portId: number, nicIndex: number, isUp: boolean): void;
  disconnectNic(portId: number, nicIndex?: number): Operation<void>;
  deleteNic(portId: number, nicIndex?: number): Operation<void>;

  /** Add a property, or update the one of its type (and id). Unknown input is checked. */
  setPortProperty(portId: number, property: unknown): Operation<void>;
  deletePortProperty(portId: number, type: PortPropertyType, propertyId?: string): Operation<void>;
  addSwitchProperty(property: SwitchProperty): Operation<void>;
  updateSwitchProperty(property: SwitchProperty): Operation<void>;
  deleteSwitchProperty(propertyId: string): Operation<void>;
  switchProperties(): readonly SwitchProperty[];
  featureStatus(featureId: string, portId?: number): Operation<JsonValue>;

  ports(): readonly PortInfo[];
  port(portId: number): PortInfo;
  findPort(name: string): PortId | null;
  /** Reasons with a count other than zero; port 0 collects what belongs to no port. */
  drops(portId: number): readonly DropCount[];
  dropReasons(): readonly DropReasonInfo[];

  /**
   * Put an extension into the stack and start it.
   * @param position place within its type from the top; left out: on top (most recently installed)
   */
  enableExtension(factory: ExtensionFactory, configuration?: unknown, position?: number): Operation<void>;
  disableExtension(name: string): Operation<void>;
  /** Give a running extension a new configuration. */
  reconfigureExtension(name: string, configuration: unknown): Operation<void>;
  /** Disable an extension over something that was found outside of a call to it. One that is not enabled is no error. */
  failExtension(name: string, error: unknown, where: string): void;
  /** Move within its type. */
  moveExtension(name: string, position: number): Operation<void>;
  /** Enabled ones from the top, then those that failed. */
  extensions(): readonly ExtensionInfo[];
  extensionStatus(name: string): JsonValue;
  extensionCommand(name: string, command: string, args: JsonValue): JsonValue;
  /** What an extension says that its configuration is now; null when it does not say. @throws SwitchError when it is no mapping */
  extensionConfiguration(name: string): JsonObject | null;

  saveNic(portId: number, nicIndex: number): Operation<readonly SavedState[]>;
  /** @returns the ids of pieces that no extension claimed */
  restoreNic(portId: number, nicIndex: number, saved: readonly SavedState[]): Operation<readonly string[]>;
  nicRequest(request: NicRequest): Operation<JsonValue>;
  indicateNicStatus(indication: StatusIndication): void;

  /** Packets from a NIC; their references pass to the switch and the batch is empty afterwards. Never throws. */
  receive(portId: number, nicIndex: number, batch: Batch): void;
  /** Ageing and other upkeep when no packets come; call about once a second. */
  tick(): void;
  /** What would happen to a frame, without forwarding or learning anything. */
  trace(packet: Packet, portId: number, nicIndex?: number): readonly TraceStep[];

  /** Be told of events. @returns call to stop */
  onEvent(listener: (event: SwitchEvent) => void): () => void;
  /** Disable extensions, remove ports. */
  close(): Operation<void>;
}
