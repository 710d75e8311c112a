/**
 * The extension interface: what an extension is (descriptor, factory, handlers) and what the switch gives it (handle, host
 * services). This is the public face for whoever writes an extension; stack/handle.ts and stack/slot.ts stand behind it.
 *
 * Packets handed to onIngress or onEgress belong to the extension until it passes them on (sendIngress, indicateEgress),
 * ends them (completeIngress, returnEgress), or keeps them: then it must do one of these later. Completions are only told.
 */
import type { Batch, Packet } from '../net/index.ts';
import type { JsonObject, JsonValue } from './control/properties.ts';
import type { StackedDecider } from './decider/placed.ts';
import type { DropReasonCode } from './drop-reason.ts';
import type { OidAction, OidRequest, QueryKind, QueryOid, QueryResult, Status, StatusIndication } from './oid/oid.ts';
import type { ForwardingContext } from './path/context.ts';
import type { Shortcuts } from './path/shortcut.ts';

export type ExtensionType = 'capturing' | 'filtering' | 'forwarding';
/** From the top of the stack: extensions of one type stand together. */
export const TYPE_ORDER: readonly ExtensionType[] = ['capturing', 'filtering', 'forwarding'];

/** Who an extension is. */
export interface ExtensionDescriptor {
  /** Unique on a switch; also the id under which its state is saved. */
  readonly name: string;
  readonly type: ExtensionType;
  /** Of the extension, such as `1.0.0`. */
  readonly version: string;
  /** One line for people. */
  readonly description?: string;
}

/** Where an extension stands; packets flow through it in Running only. */
export type ExtensionState = 'Detached' | 'Attaching' | 'Paused' | 'Restarting' | 'Running' | 'Pausing';

/** What a module exports for each extension. */
export interface ExtensionFactory<Configuration = unknown> {
  readonly descriptor: ExtensionDescriptor;
  /** Set by who loads it: its code is not vouched for. It gets lists of packets of its own, and what it could freeze is looked at when it hands it over. */
  readonly isForeign?: boolean;
  /**
   * Check a configuration from outside; left out, the extension takes none.
   * @throws Error saying what is wrong with which field
   */
  parseConfiguration?(value: unknown): Configuration;
  /** Make an instance for one switch. Nothing flows until its attach and restart have run. */
  create(handle: ExtensionHandle, configuration: Configuration): Extension;
}

/** Where an extension would send a packet. */
export interface ExplainedDestination {
  readonly portId: number;
  readonly nicIndex: number;
  readonly flags: number;
}

/** A changed copy that a forwarding extension would originate. */
export interface ExplainedCopy {
  /** In hexadecimal. */
  readonly frame: string;
  readonly destinations: readonly ExplainedDestination[];
}

/** What an extension says about a packet that is being traced. Nothing may be changed or learned. */
export interface Explanation {
  /** What it looked at and found, one sentence a line. */
  readonly lines: readonly string[];
  /** It would drop the packet. */
  readonly drop?: DropReasonCode;
  /** A forwarding extension: where it would send the packet. */
  readonly destinations?: readonly ExplainedDestination[];
  /** A forwarding extension: what it would originate besides. */
  readonly copies?: readonly ExplainedCopy[];
  /** A forwarding extension: the program that it would hand the packet to. */
  readonly handedTo?: string;
  /** Destinations that it would exclude, with the reason. */
  readonly excluded?: readonly { readonly portId: number; readonly reason: DropReasonCode }[];
}

/** The handlers of an extension. One that is left out is bypassed at no cost. */
export interface Extension {
  /** Packets on their way down. @param flags bits of PacketFlag */
  onIngress?(batch: Batch, flags: number): void;
  /** Packets that this extension passed down, or originated, are done. They are released after the call. */
  onIngressComplete?(batch: Batch): void;
  /** Packets with their destinations on their way up. */
  onEgress?(batch: Batch, flags: number): void;
  /** Packets that this extension passed up are done. */
  onEgressReturn?(batch: Batch): void;
  /** An OID on its way down; left out or void: forward. */
  onOid?(request: OidRequest): OidAction | undefined;
  /** An OID that this extension forwarded is done; on a failure, undo what was done for it. */
  onOidComplete?(request: OidRequest, status: Status): void;
  /** A status on its way up. Return false to keep it from going further. */
  onStatus?(indication: StatusIndication): boolean | undefined;

  attach?(): void;
  /** Let go of all packets and pended OIDs, now or soon; the pause lasts until they are gone. */
  pause?(): void;
  restart?(): void;
  /** The switch became active. Not called when it already was: ask SWITCH_PARAMETERS in restart. */
  switchActive?(): void;
  detach?(): void;
  /** New, already checked configuration while running. Left out, the extension is made anew. */
  reconfigure?(configuration: unknown): void;

  /** Its state as JSON, for people and programs. */
  status?(): JsonValue;
  /** Its counters are about to be read: bring what was counted elsewhere. */
  countersWanted?(): void;
  /** A command of its own, such as `flush`; see `runCommand` for a table of them. @throws Error for a command or argument that it does not know */
  command?(name: string, args: JsonValue): JsonValue;
  /**
   * Of one whose commands change its configuration: the configuration that it has now, as `parseConfiguration` takes it. What a command has changed is then the running
   * configuration: it is shown, compared with a file, and given again after a crash.
   */
  configuration?(): JsonObject;
  /**
   * Whether all that comes in or goes out through a port may go past this extension, whatever it is; until {@link Shortcuts.changed}. Left
   * out, an extension that is handed packets is handed all of them.
   */
  passByPort?(portId: number): boolean;
  /**
   * Of an extension that is a decider (decider/define.ts): what it decides, for whoever forwards to decide it along. While somebody does, its handlers
   * get no packets.
   */
  readonly decider?: StackedDecider;
  /** Of a forwarding extension: it decides along what deciders right above it decide; see {@link Shortcuts.decidersAbove}. */
  readonly decidesAlong?: boolean;
  /** What it would do with a packet. */
  explain?(packet: Packet, context: ForwardingContext): Explanation;
}

/** A counter that shows up in the extension's counters. */
export interface Counter {
  value: number;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** A timer that can be cancelled; cancelling twice is harmless. */
export interface TimerHandle {
  cancel(): void;
}

/** A record that the switch keeps of the extension that it is in. */
export interface EntryRecord {
  /** The first word: the number of the innermost extension that has not returned; 0 for none. May be shared memory. */
  readonly record: Int32Array;
  /** The number of an extension, from 1 on; the same for the same name. */
  numberOf(name: string): number;
  /**
   * Optional: whether code has changed what all code shares (`Array.prototype.push`). It is put right at once. Asked whenever an extension calls or
   * returns, so it has to be quick.
   * @param by number of the extension that has run since it was asked last; 0 for none
   * @returns what was changed; null for nothing
   */
  spoilt?(by: number): string | null;
}

/** What the surroundings give to a switch and its extensions. */
export interface HostServices {
  /** Mandatory: a monotonic clock in milliseconds; fractions allowed. */
  nowMs(): number;
  /** Mandatory. */
  log(level: LogLevel, message: string, fields?: Readonly<Record<string, JsonValue>>): void;
  /** Optional: call back once after a delay. Without it, extensions that need timers refuse to attach. */
  readonly setTimer?: (delayMs: number, callback: () => void) => TimerHandle;
  /** Optional: where the switch writes down which extension runs, so that another thread can tell which one does not return. */
  readonly entered?: EntryRecord;
  /** Optional: services of the surroundings by name, such as routes or sockets; extensions check what they get. */
  readonly services?: Readonly<Record<string, unknown>>;
}

/** The standard policies of the switch, for forwarding extensions that enforce them. All are free of side effects. */
export interface StandardPolicies {
  /** What security, VLAN, isolation and routing domain of the source port say. A DropReason; NONE passes. */
  ingressVerdict(packet: Packet): DropReasonCode;
  /** What the destination port's policies say about this packet. */
  egressVerdict(packet: Packet, portId: number): DropReasonCode;
  /** The DestinationFlag bits that suit the VLAN policy of a port. */
  destinationFlags(portId: number): number;
  /** The NIC index to use for an address learned at a NIC: that one while it is connected, else 0. */
  destinationNic(portId: number, nicIndex: number): number;
  /** What delivery will do to the frame's VLAN tag for one destination: a TagAction with the TCI in its low bits. */
  tagAction(packet: Packet, index: number): number;
  /**
   * Add every connected port of the packet's forwarding domain other than its source, and commit.
   * @returns how many were added
   */
  flood(packet: Packet): number;
}

/** The switch as one extension sees it. Misuse throws RuleError and changes nothing. */
export interface ExtensionHandle {
  readonly name: string;
  readonly type: ExtensionType;
  readonly host: HostServices;
  readonly policies: StandardPolicies;
  /** Ways past the switch. */
  readonly shortcuts: Shortcuts;

  /** Give an originated packet its context (rules 10, 11). @returns false when none is free (RESOURCES) */
  allocateContext(packet: Packet): boolean;
  /** Take the context off a packet that was never sent. */
  freeContext(packet: Packet): void;
  /** The context of a packet. */
  context(packet: Packet): ForwardingContext;
  /** Set source port and NIC of an own packet, before its destinations. */
  setSource(packet: Packet, portId: number, nicIndex: number): void;

  /** Add and commit one destination. @param flags PRESERVE bits of DestinationFlag; see policies.destinationFlags */
  addDestination(packet: Packet, portId: number, nicIndex: number, flags: number): void;
  /**
   * Add and commit a destination, if the policies of the port let the packet leave there, with the flags that suit the port.
   * @param nicIndex the NIC to use while it is connected; else NIC 0 is
   * @returns why it was not added; NONE when it was
   */
  addAllowedDestination(packet: Packet, portId: number, nicIndex: number): DropReasonCode;
  /** Make room for more. @returns false: RESOURCES */
  growDestinations(packet: Packet, count: number): boolean;
  /** Write a new element, from numDestinations on. It counts once updateDestinations has run. */
  fillDestination(packet: Packet, index: number, portId: number, nicIndex: number, flags: number): void;
  /** Commit `count` filled elements. */
  updateDestinations(packet: Packet, count: number): void;
  /** Exclude a committed destination on egress; counted at that port under the reason. */
  excludeDestination(packet: Packet, index: number, reason: DropReasonCode): void;
  /** Copy source and classification from one packet to an own one, destinations only when asked for (rule 17). */
  copyInfo(target: Packet, source: Packet, preserveDestinations: boolean): void;

  referencePort(portId: number): void;
  dereferencePort(portId: number): void;
  referenceNic(portId: number, nicIndex: number): void;
  dereferenceNic(portId: number, nicIndex: number): void;

  /**
   * Count a list of packets as filtered by one port, for one reason; then end them with completeIngress or returnEgress.
   * @param incoming true when judged by the source
   */
  reportFiltered(batch: Batch, portId: number, reason: DropReasonCode, incoming: boolean): void;
  /** Report and complete every packet of a batch; {@link reportFiltered} and completeIngress in one for common cases. */
  dropIngress(batch: Batch, portId: number, reason: DropReasonCode, incoming: boolean): void;

  setSwitchContext(packet: Packet, value: object | null): void;
  getSwitchContext(packet: Packet): object | null;

  /** Pass packets down; the batch is empty afterwards. */
  sendIngress(batch: Batch, flags: number): void;
  /** End packets here; the batch is empty afterwards. */
  completeIngress(batch: Batch): void;
  /**
   * End packets whose content went on by another way: to a program, into a tunnel, in changed copies. They count as consumed,
   * not as dropped; the batch is empty afterwards.
   */
  consumeIngress(batch: Batch): void;
  /** Pass packets up; the batch is empty afterwards. */
  indicateEgress(batch: Batch, flags: number): void;
  /** End packets here; the batch is empty afterwards. */
  returnEgress(batch: Batch): void;
  /** Send own packets (originated, cloned, copied) down from here. */
  injectIngress(batch: Batch, flags: number): void;
  /** Send own unchanged clones up from here (rule 18). */
  injectEgress(batch: Batch, flags: number): void;

  /** An empty packet of the switch's pool with one reference; null: RESOURCES. */
  allocate(): Packet | null;
  /** A second packet over the same bytes, with context and source; null: RESOURCES. */
  clone(packet: Packet): Packet | null;
  /** A packet with its own copy of the bytes, context and source; its data may be written. null: RESOURCES. */
  copy(packet: Packet): Packet | null;

  /**
   * Whether the bytes of a packet may be written: on ingress, by a filtering or forwarding extension that holds it, and with
   * nobody sharing them. Otherwise write to a {@link copy}.
   */
  isWritable(packet: Packet): boolean;
  /** After the bytes of a packet were written: read tags and EtherType again and judge its source anew. */
  reclassify(packet: Packet): void;

  /** Pass a pended OID down. */
  forwardOid(request: OidRequest): void;
  /** Complete a pended OID. */
  completeOid(request: OidRequest, status: Status): void;
  /** Ask the layers below. @param capacityBytes room for the answer; left out: enough */
  query<K extends QueryKind>(oid: QueryOid & { readonly kind: K }, capacityBytes?: number): QueryResult<K>;
  /** In onOid, forwarding only: send a NIC request to the external port instead. */
  redirectNicRequest(request: OidRequest, portId: number, nicIndex: number): void;
  /** Send a status upwards from here. */
  indicateStatus(indication: StatusIndication): void;

  /** A counter by name; the same name gives the same counter. */
  counter(name: string): Counter;
  /** A drop reason of its own, named `<extension>:<NAME>`. */
  registerDropReason(name: string, text: string): DropReasonCode;
  /** A timer whose callback runs as part of the switch; needs the host's setTimer. */
  setTimer(delayMs: number, callback: () => void): TimerHandle;
}
