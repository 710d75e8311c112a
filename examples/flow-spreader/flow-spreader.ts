/**
 * A forwarding decider: one port is the uplink, all others are workers, such as several instances of an intrusion detection system
 * or of a proxy. A flow from the uplink goes to one worker, chosen by a hash that is the same in both directions; what a worker
 * sends goes to the uplink. It shows how to send packets to ports, and how to keep state of one's own in step with them.
 */
import {
  type DeciderExtension,
  type DeciderHandle,
  type Decision,
  defineDecider,
  type JsonValue,
  type PacketView,
  type WeightedChoice,
} from 'millrace/switch';

interface Configuration {
  /** Name of the uplink port. */
  readonly uplink: string;
}

function parseConfiguration(value: unknown): Configuration {
  const given: Readonly<Record<string, unknown>> = { ...(value as object | null) };
  const unknown = Object.keys(given).find((key) => key !== 'uplink');
  if (unknown !== undefined) throw new Error(`unknown key "${unknown}"; there is only uplink`);
  if (typeof given.uplink !== 'string' || given.uplink === '') throw new Error('uplink: must be the name of a port');
  return { uplink: given.uplink };
}

class FlowSpreader implements DeciderExtension {
  readonly #ports: DeciderHandle['ports'];
  readonly #uplinkName: string;
  /** The worker of a flow by its hash. When a worker comes or goes, only flows move that it gains or loses. */
  readonly #workers: WeightedChoice<number>;

  constructor(handle: DeciderHandle, configuration: Configuration) {
    this.#ports = handle.ports;
    this.#uplinkName = configuration.uplink;
    this.#workers = handle.state.weighted('workers');
    handle.dropReason('NO_DESTINATION', 'There is no uplink, or no worker to send to.');
  }

  /** All ports but the uplink are workers. */
  portsChanged(): void {
    const present = this.#ports.all().filter(({ name }) => name !== this.#uplinkName);
    for (const { key } of this.#workers.entries())
      if (!present.some(({ portId }) => portId === key)) this.#workers.delete(key);
    for (const { portId } of present) this.#workers.set(portId, 1, portId);
  }

  decide(packet: PacketView, decision: Decision): void {
    const uplink = this.#ports.named(this.#uplinkName);
    if (uplink === null) decision.drop('NO_DESTINATION');
    else if (packet.inPort === uplink) this.#spread(packet, decision);
    else decision.output(uplink);
  }

  #spread(packet: PacketView, decision: Decision): void {
    // ARP and the like concern every worker.
    if (packet.ip === null && this.#workers.size > 0) {
      decision.flood();
      return;
    }
    const worker = this.#workers.pick(packet.flowHash({ symmetric: true }));
    if (worker === null) decision.drop('NO_DESTINATION');
    else decision.output(worker);
  }

  status(): JsonValue {
    return {
      uplink: this.#ports.named(this.#uplinkName) === null ? null : this.#uplinkName,
      workers: this.#workers.entries().map(({ value }) => this.#ports.nameOf(value)),
    };
  }
}

export default defineDecider<Configuration>({
  descriptor: {
    name: 'flow-spreader',
    type: 'forwarding',
    version: '2.0.0',
    description: 'spreads the flows of an uplink over the other ports',
  },
  parseConfiguration,
  create: (handle, configuration) => new FlowSpreader(handle, configuration),
});
