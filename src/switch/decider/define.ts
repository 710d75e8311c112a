/**
 * Deciders as extensions: what a module exports, what it gets, and the adapter by which it stands in the stack like any other extension.
 * Neighbours: forwarding.ts and filtering.ts are the adapter; the room decide/ has the contract.
 */
import type {
  DecidedFlowsLimits,
  Decider,
  DeciderState,
  FlowCounter,
  ObservedPorts,
  PacketView,
} from '../../decide/index.ts';
import type { PortId } from '../../net/index.ts';
import type { JsonObject, JsonValue } from '../control/properties.ts';
import type { DropReason } from '../drop-reason.ts';
import type {
  Extension,
  ExtensionDescriptor,
  ExtensionFactory,
  ExtensionHandle,
  HostServices,
  TimerHandle,
} from '../extension.ts';
import { FilteringDecider } from './filtering.ts';
import { ForwardingDecider } from './forwarding.ts';

/** The switch as a decider sees it. */
export interface DeciderHandle {
  readonly name: string;
  readonly host: HostServices;
  /** Makes observed state: what decisions read of it they rest on. */
  readonly state: DeciderState;
  /** Ports that something is connected to. */
  readonly ports: Pick<ObservedPorts, 'named' | 'nameOf' | 'has' | 'others' | 'all'>;
  /** All ports by name, those too that nothing is connected to. Not observed: {@link DeciderExtension.portsChanged} tells when it is another. */
  portIds(): ReadonlyMap<string, PortId>;
  /**
   * The VLAN that the switch holds a packet in, by the policies of its port, also when its frame has no tag; 0 for none, from 4096 on a virtual subnet. Looks at the
   * id of the tag, and rests on the policies.
   */
  vlanOf(packet: PacketView): number;
  /**
   * Whether the switch lets a packet of that VLAN leave by a port: VLANs, private VLANs and isolation. An output to another port is refused and counted there, so a flood goes
   * to these. Looks at the id of the tag, and rests on the policies of all ports.
   */
  leavesBy(packet: PacketView, portId: number): boolean;
  /**
   * Have the connections of all IP packets of the switch tracked, or no longer: `packet.connection` says what is known then. Connections are kept when the packet that begins one
   * goes out. To be said before decisions read it; it ends with the extension.
   */
  trackConnections(isWanted: boolean): void;
  /** A counter for decisions to move, shown with the extension; the same name gives the same counter. */
  counter(name: string): FlowCounter;
  /** A counter that is not shown, as for one of many rules. Call {@link settle} before reading such. */
  tally(name: string): FlowCounter;
  /** Bring to counters what has been counted elsewhere until now. */
  settle(): void;
  /**
   * Say in a sentence what a reason of `decision.drop` means.
   * @returns false when the switch has no number left to tell it from others: then it is counted as EXTENSION_FILTER
   */
  dropReason(name: string, text: string): boolean;
  /** Drops for a reason of this name count as the switch's own of that name. */
  dropsAs(name: keyof typeof DropReason): void;
  /** Call back once after a delay. @throws SwitchError where the host has no timers */
  setTimer(delayMs: number, callback: () => void): TimerHandle;
}

/** A decider with what an extension can do besides. */
export interface DeciderExtension extends Decider {
  attach?(): void;
  detach?(): void;
  /**
   * Whether it says anything at present about packets on their way down or, with `isOutput`, about those that are to leave. Asked for each list of packets while it stands by
   * itself, so that one with nothing to say costs nothing. Left out, it may.
   */
  mayDecide?(isOutput: boolean): boolean;
  /** Ports have come, gone or got other names: for state of its own that follows them. Decisions rest on the ports that they have asked for anyhow. */
  portsChanged?(): void;
  /** Time has passed. Told with each second of the clock, before packets are forwarded that came later. @param nowMs of the host's clock */
  turn?(nowMs: number): void;
  /**
   * Forwarding: bounds of the flows that are kept of its decisions, asked for when it starts and behind {@link reconfigure}; left out, there are 100,000 for 10 seconds.
   * With at most 0 there are as many, and none elsewhere, such as in the kernel.
   */
  flowLimits?(): Pick<DecidedFlowsLimits, 'maximumFlows' | 'idleMs'>;
  /** New, already checked configuration while running. Left out, the decider is made anew. */
  reconfigure?(configuration: unknown): void;
  /** Its state as JSON, for people and programs. */
  status?(): JsonValue;
  /** Its {@link status} is all that is shown: without how many decisions and flows there are. */
  readonly showsStatusAlone?: boolean;
  /** A command of its own. @throws Error for a command or argument that it does not know */
  command?(name: string, args: JsonValue): JsonValue;
  /**
   * Of one whose commands change its configuration: the configuration that it has now, as `parseConfiguration` takes it. What a command has changed is then the running
   * configuration: it is shown, compared with a file, and given again after a crash.
   */
  configuration?(): JsonObject;
}

/** What a module says of a decider. */
export interface DeciderDefinition<Configuration = unknown> {
  /** Its type is `filtering` or `forwarding`. */
  readonly descriptor: ExtensionDescriptor;
  /**
   * Check a configuration from outside; left out, it takes none.
   * @throws Error saying what is wrong with which field
   */
  parseConfiguration?(value: unknown): Configuration;
  create(handle: DeciderHandle, configuration: Configuration): DeciderExtension;
}

/**
 * Make an extension of a decider: the default export of a module.
 * @throws TypeError for a descriptor of another type
 */
export function defineDecider<Configuration = unknown>(
  definition: DeciderDefinition<Configuration>,
): ExtensionFactory<Configuration> {
  const { descriptor, parseConfiguration } = definition;
  const { type } = descriptor;
  if (type !== 'filtering' && type !== 'forwarding')
    throw new TypeError(`a decider is filtering or forwarding, and not ${type}`);
  return {
    descriptor,
    ...(parseConfiguration === undefined
      ? {}
      : { parseConfiguration: (value) => parseConfiguration.call(definition, value) }),
    create(handle: ExtensionHandle, configuration: Configuration): Extension {
      const make = (given: DeciderHandle) => definition.create(given, configuration);
      return type === 'forwarding' ? new ForwardingDecider(handle, make) : new FilteringDecider(handle, make);
    },
  };
}
