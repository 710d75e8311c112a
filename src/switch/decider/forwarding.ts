/**
 * A forwarding decider in the stack: its decisions are kept as flows, which the engine runs here. What filtering deciders right above it decide is decided along, in one
 * pass, so that they need not see the packets. What runs in the kernel is carried-flows.ts's affair.
 */
import { type KeptDecision, nicIn, type PortNumber, portIn, portNumber } from '../../decide/index.ts';
import { Datapath, Drop, flowRegistryOf, type RecalledFlow, Word } from '../../flow/index.ts';
import { type Batch, ClonePool, type Packet, PacketPool } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
import { DropReason } from '../drop-reason.ts';
import type { Explanation, Extension, ExtensionHandle } from '../extension.ts';
import type { OidRequest, Status } from '../oid/oid.ts';
import type { ForwardingContext } from '../path/context.ts';
import { FlowForwarding } from '../path/flow-forwarding.ts';
import { CarriedFlows } from './carried-flows.ts';
import type { DeciderExtension, DeciderHandle } from './define.ts';
import { explainForwarding } from './explain.ts';
import { DeciderPlace, type StackedDecider } from './placed.ts';
import { StackedFlows } from './stacked-flows.ts';
import { Turns } from './turns.ts';

const BUFFERS = { packets: 1024, bufferBytes: 2304, largePackets: 32, largeBufferBytes: 66_048, clones: 1024 };

export class ForwardingDecider implements Extension {
  /** Of a forwarding extension: what stands right above it need not see packets. */
  readonly decidesAlong = true;
  readonly reconfigure?: (configuration: unknown) => void;
  readonly #handle: ExtensionHandle;
  readonly #place: DeciderPlace;
  readonly #decided: StackedFlows;
  readonly #datapath: Datapath;
  readonly #forwarding: FlowForwarding;
  readonly #turns: Turns;
  readonly #buffers = {
    pool: new PacketPool({ packets: BUFFERS.packets, bufferBytes: BUFFERS.bufferBytes }),
    largePool: new PacketPool({ packets: BUFFERS.largePackets, bufferBytes: BUFFERS.largeBufferBytes }),
    clones: new ClonePool(BUFFERS.clones),
  };
  #along: readonly StackedDecider[] = [];
  #offered: CarriedFlows | null = null;
  #unwatch: (() => void) | null = null;

  constructor(handle: ExtensionHandle, make: (handle: DeciderHandle) => DeciderExtension) {
    this.#handle = handle;
    this.#place = new DeciderPlace(handle, 'forwarding', make, () => this.#decided.settle());
    this.#decided = new StackedFlows(handle, this.#place.ports, () => this.#forwarding);
    const { flows } = this.#decided;
    const { decider } = this.#place;
    if (decider.reconfigure !== undefined)
      this.reconfigure = (given) => {
        decider.reconfigure?.(given);
        this.#bound();
      };
    this.#turns = new Turns(handle, (nowMs) => {
      decider.turn?.(nowMs);
      flows.advance();
    });
    this.#datapath = new Datapath({
      table: flows.table,
      countsTcpFlags: false,
      nowMs: () => handle.host.nowMs(),
      ...this.#buffers,
      hooks: {
        outputIgnoresKey: true,
        isPlain: (slot) => !flows.hasExcluded(slot),
        output: (packet, number: PortNumber) => {
          if (!this.#forwarding.forward(packet, portIn(number), nicIn(number)))
            this.#datapath.refuse(packet, Drop.OUTPUT_REFUSED);
        },
        decide: (packet, key) => flows.decide(key, () => packet.frame()),
        dropped: (_, reason) => this.#forwarding.dropped(reason),
        ended: (reason) => {
          this.#decided.countExcluded(this.#record(), 1);
          this.#forwarding.ended(reason);
        },
      },
    });
    this.#forwarding = new FlowForwarding(handle, {
      hasPort: () => true,
      receive: (batch, portId, nicIndex) => {
        this.#datapath.receive(batch, portNumber(portId, nicIndex));
        this.#forwarding.flush();
      },
      quick: this.#datapath,
      unknownPort: DropReason.UNKNOWN_PORT,
      reasonOf: (drop) => (drop === Drop.FLOW ? this.#decided.reasonOf(this.#record()?.drop) : undefined),
      dropPort: (drop) => (drop === Drop.FLOW ? this.#decided.portOf(this.#record()?.drop) : -1),
      describe: (name) => `What ${handle.name} decided could not be done: ${name}.`,
    });
  }

  attach(): void {
    this.#place.decider.attach?.();
  }

  restart(): void {
    this.#place.learnPorts();
    this.#lookAlong();
    this.#unwatch ??= this.#handle.shortcuts.watch((_portId, alsoOut) => {
      if (!alsoOut) return;
      this.#lookAlong();
      this.#offered?.changed();
    });
    this.#bound();
    this.#turns.start();
  }

  switchActive(): void {
    this.#place.learnPorts();
  }

  detach(): void {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#turns.stop();
    this.#decided.flows.close();
    this.#beAlong([]);
    this.#endOffer();
    this.#place.decider.detach?.();
  }

  /** The decider says how many flows there may be, and whether any elsewhere. */
  #bound(): void {
    const limits = this.#place.decider.flowLimits?.();
    if (limits?.maximumFlows === 0) this.#endOffer();
    else {
      this.#decided.flows.limit(limits ?? {});
      this.#offered?.limit(limits ?? {});
      this.#offered ??= this.#offer();
    }
  }

  #offer(): CarriedFlows | null {
    const { host, name } = this.#handle;
    const registry = flowRegistryOf(host.services);
    // What headers say counts only where those that lie are handed up.
    if (registry?.strict !== true) return null;
    const offered = new CarriedFlows({
      handle: this.#handle,
      registry,
      forwarding: this.#forwarding,
      ports: this.#place.ports,
      forwarder: this.#place,
      recalls: true,
      limits: this.#place.decider.flowLimits?.() ?? {},
      own: {
        ...this.#decided.source(name),
        hashSecret: this.#datapath.hashSecret,
        recall: (flow) => this.#recall(flow),
      },
    });
    offered.start();
    return offered;
  }

  #endOffer(): void {
    this.#offered?.close();
    this.#offered = null;
  }

  /** Who is decided along may have changed: then every decision is another. */
  #lookAlong(): void {
    const along = this.#handle.shortcuts.decidersAbove();
    this.#decided.decideBy([...along, this.#place]);
    this.#beAlong(along);
  }

  #beAlong(along: readonly StackedDecider[]): void {
    for (const each of this.#along) each.settledBy(null);
    this.#along = along;
    for (const each of along) each.settledBy(() => this.#decided.settle());
  }

  countersWanted(): void {
    this.#place.settle();
  }

  onOidComplete(request: OidRequest, status: Status): void {
    this.#place.note(request, status);
    this.#offered?.changed();
  }

  onIngress(batch: Batch, flags: number): void {
    const nowMs = this.#handle.host.nowMs();
    this.#turns.passed(nowMs);
    this.#forwarding.onIngress(batch, flags, nowMs);
  }

  /** What was decided about the present packet. */
  #record(): KeptDecision | null {
    const { slot } = this.#datapath;
    const { flows } = this.#decided;
    return slot === -1 ? flows.onlyRecord : flows.recordOf(slot);
  }

  /** A flow from before a restart still runs: when it would be decided so again, it goes on. */
  #recall({ portId, key, outputPortIds }: RecalledFlow): void {
    if (!this.#place.ports.has(portId)) return;
    const present = key.slice();
    present[Word.IN_PORT] = portNumber(portId, 0);
    this.#decided.flows.recall(present, null, outputPortIds);
  }

  explain(packet: Packet, context: ForwardingContext): Explanation {
    return explainForwarding(packet, context, this.#decided, this.#handle.policies, this.#buffers);
  }

  status(): JsonValue {
    const { decider } = this.#place;
    if (decider.showsStatusAlone === true) return decider.status?.() ?? null;
    return {
      ...this.#decided.status(),
      decidedAlong: this.#along.map(({ placed }) => placed.name),
      carried: this.#offered?.status() ?? null,
      ...(decider.status === undefined ? {} : { state: decider.status() }),
    };
  }

  command(name: string, args: JsonValue): JsonValue {
    const { decider } = this.#place;
    if (decider.command === undefined) throw new TypeError(`${this.#handle.name} has no commands`);
    return decider.command(name, args);
  }
}
