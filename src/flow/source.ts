/**
 * How whoever decides about packets offers its flow table to whoever runs flows elsewhere, such as in the kernel. Neither knows
 * the other: both are given the registry by what puts them together.
 */
import type { KeyPort, Packet, PortId } from '../net/index.ts';
import type { FlowKey } from './key/key.ts';
import type { ResumeBytes } from './resume/record.ts';
import type { OfferedFlows } from './table/offered.ts';

/** A flow that whoever ran flows elsewhere still runs, though the process that put it is gone. */
export interface RecalledFlow {
  /** The switch's port that its packets come in by. */
  readonly portId: PortId;
  /** Where they go. */
  readonly outputPortIds: readonly PortId[];
  /** Words of a flow key; bits that its mask does not look at are 0. The input port is as it was then. */
  readonly key: Uint32Array;
}

/** What a source says of one of its flows, for people. */
export interface FlowDescription {
  /** The extensions whose decision it is, from the top of the stack. */
  readonly deciders: readonly string[];
  /** Why its packets are dropped, such as `wall:DENIED`; null when they are not, or that is not known. */
  readonly drop: string | null;
}

/** A flow table with what its port numbers mean. */
export interface FlowSource {
  /** For people, such as `learning` or the name of a datapath. */
  readonly name: string;
  readonly table: OfferedFlows;
  /** The secret of its hash action, when it has one. */
  readonly hashSecret?: { readonly low: number; readonly high: number };
  /** The switch's port for a number in keys and outputs; -1 for none that frames can simply be sent to, such as a tunnel. */
  portIdOf(number: KeyPort): PortId | -1;
  /** The number in keys for a port of the switch; -1 when the table says nothing about its packets. */
  numberOf(portId: PortId): KeyPort | -1;
  /** Whether the packets of a port may go past whatever else looks at them; left out, the flows themselves say so. */
  isOpen?(portId: PortId): boolean;
  /** Whether flows that run elsewhere may send to a port. Left out, they may; where they may not, whoever offers the table looks at what goes there. */
  takesOutput?(portId: PortId): boolean;
  /** Whose decision a flow is. Left out, all flows are the decisions of the one that offers the table. */
  describe?(slot: number): FlowDescription;
  /** Packets that it decided about one by one, and keeps no flow for, by the reason. Left out by a source that does no such thing. */
  apart?(): Readonly<Record<string, number>>;
  /**
   * Go on with a packet that ran elsewhere up to a look-up that knew no flow for it, and was changed before. Its reference passes over. Left out by a
   * source that cannot: then no flow looks a packet up again that it has changed, but where the source itself runs it.
   * @param portId the switch's port that it came in by
   */
  resume?(packet: Packet, portId: PortId, record: ResumeBytes): void;
  /**
   * Whether what ran elsewhere has changed no byte of such a packet and told nothing about it, so that it comes in anew as a packet that ran nowhere, and is not resumed: its flow did
   * no more before the look-up than to track it. Left out by a table without such flows.
   */
  beginsAnew?(record: ResumeBytes): boolean;
  /** Told what was carried elsewhere by a flow since it was last told. */
  carried?(slot: number, packets: number, bytes: number): void;
  /** Told after a restart of each flow that still runs; what the source does not put anew ends, and its packets come up. */
  recall?(flow: RecalledFlow): void;
  /**
   * The extension that offers this table when a program asks it to, which may be long after a restart: what still runs then waits for it
   * while that extension runs. Left out for a table that is offered from the start.
   */
  readonly returnsWith?: string;
}

/** What a source gets for its table. */
export interface FlowRegistration {
  /** Ports have come, gone or got other numbers. */
  portsChanged(): void;
  /**
   * Hand a packet over to where flows run, which goes on with the look-up that it is before, as with {@link FlowSource.resume} the other way. It counts there, what becomes of it is told by
   * `carried`, and where nothing is found for it, it comes back by `resume`. Left out where nobody takes any.
   * @param slot of the flow that it falls to
   * @param packet stays the caller's
   * @param key of the look-up
   * @returns whether it was taken
   */
  handDown?(slot: number, packet: Packet, key: FlowKey): boolean;
  /** Told of look-ups that the source did itself, so that it is known what handing down would save: as FlowHooks.wentOn. */
  wentOn?(slot: number, lookUps: number, isCopied: boolean): void;
  close(): void;
}

/** Takes flow tables: the service `flows` of a switch's host services, where there is one. */
export interface FlowRegistry {
  /**
   * Packets whose headers lie are not run by flows that look beyond the Ethernet header and tags, but handed up: those that
   * HeaderOffsets of net/ finds malformed, as deep as the flow's mask goes. A flow that stands for a filter needs this, since a
   * key does not tell. When it is not said, sources offer no such flow.
   */
  readonly strict?: boolean;
  register(source: FlowSource): FlowRegistration;
}

/** The registry among the services of a switch's surroundings; null when flows run nowhere else. */
export function flowRegistryOf(services: Readonly<Record<string, unknown>> | undefined): FlowRegistry | null {
  const service = services?.flows;
  const isRegistry =
    typeof service === 'object' && service !== null && typeof Reflect.get(service, 'register') === 'function';
  return isRegistry ? (service as FlowRegistry) : null;
}
