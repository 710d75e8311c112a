/**
 * A forwarding decider in the stack: its decisions are kept as flows. What filtering deciders right above it decide is decided along, in one pass, so that they need not see the packets.
 *
 * Where there is somebody who runs flows elsewhere, such as the kernel, these are offered from the beginning (carried-decisions.ts), in one table for good: policies of ports and deciders that
 * stand by themselves have a say in it, and when one of them changes, the flows end that rest on it, and no others. As long as they have nothing to say the flows run here as well. When they
 * do, packets that come through the switch have been judged by them before they come here: then flows of their own run here, without the others' say, until nobody has anything to say any more.
 */
import { type DecidedFlowsOptions, portNumber } from '../../decide/index.ts';
import { flowRegistryOf } from '../../flow/index.ts';
import type { Batch, Packet } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
import { DropReason } from '../drop-reason.ts';
import type { Explanation, ExtensionHandle } from '../extension.ts';
import type { OidRequest, Status } from '../oid/oid.ts';
import type { ForwardingContext } from '../path/context.ts';
import { FlowForwarding } from '../path/flow-forwarding.ts';
import { CarriedDecisions } from './carried-decisions.ts';
import type { DeciderExtension, DeciderHandle } from './define.ts';
import { explainForwarding } from './explain.ts';
import { ForwardingBuffers, ForwardingEngine } from './forwarding-engine.ts';
import { DeciderAdapter, type StackedDecider } from './placed.ts';
import { StackedFlows } from './stacked-flows.ts';
import { Turns } from './turns.ts';

export class ForwardingDecider extends DeciderAdapter {
  /** Of a forwarding extension: what stands right above it need not see packets. */
  readonly decidesAlong = true;
  /** All that is decided; offered, when there is somebody who takes it. */
  readonly #decided: StackedFlows;
  readonly #forwarding: FlowForwarding;
  readonly #turns: Turns;
  readonly #buffers = new ForwardingBuffers();
  /** Runs what is offered. */
  readonly #shared: ForwardingEngine;
  /** Runs what is decided without those who have judged packets before they come here; null while nobody has. */
  #apart: ForwardingEngine | null = null;
  /** The one of the two that runs packets now. */
  #engine: ForwardingEngine;
  #along: readonly StackedDecider[] = [];
  #carried: CarriedDecisions | null = null;
  #unwatch: (() => void) | null = null;

  constructor(handle: ExtensionHandle, make: (handle: DeciderHandle) => DeciderExtension) {
    super(handle, 'forwarding', make);
    this.#forwarding = new FlowForwarding(handle, {
      hasPort: () => true,
      receive: (batch, portId, nicIndex) => {
        this.#engine.datapath.receive(batch, portNumber(portId, nicIndex));
        this.#forwarding.flush();
      },
      quick: () => this.#engine.datapath,
      unknownPort: DropReason.UNKNOWN_PORT,
      reasonOf: (drop) => this.#engine.reasonOf(drop),
      dropPort: (drop) => this.#engine.dropPort(drop),
      describe: (text) => `What ${handle.name} decided could not be done. ${text}`,
    });
    // Elsewhere nobody has tracked packets before.
    this.#decided = this.#newFlows({ tracks: () => this.#carried !== null && handle.shortcuts.isTracking() });
    this.#shared = this.#run(this.#decided);
    this.#engine = this.#shared;
    this.#turns = new Turns(handle, (nowMs) => {
      this.own.turn?.(nowMs);
      this.#decided.flows.advance();
      this.#apart?.decided.flows.advance();
    });
  }

  #newFlows(elsewhere: Pick<DecidedFlowsOptions, 'tracks'> = {}): StackedFlows {
    return new StackedFlows(this.handle, this.ports, () => this.#forwarding, elsewhere);
  }

  #run(decided: StackedFlows, like?: ForwardingEngine): ForwardingEngine {
    return new ForwardingEngine({
      decided,
      forwarding: this.#forwarding,
      buffers: this.#buffers,
      nowMs: () => this.handle.host.nowMs(),
      ...(like === undefined ? {} : { like }),
    });
  }

  protected override reconfigured(): void {
    this.#bound();
  }

  /** What is offered beside it is settled by the switch. */
  protected override settleOwn(): void {
    this.#engine.decided.settle();
  }

  restart(): void {
    this.learnPorts();
    this.#look();
    this.#unwatch ??= this.handle.shortcuts.watch((_portId, alsoOut) => {
      if (alsoOut) this.#look();
    });
    this.#bound();
    this.#turns.start();
  }

  detach(): void {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#turns.stop();
    this.#decided.flows.close();
    this.#beTogether();
    this.#beAlong([]);
    this.#carried?.close();
    this.#carried = null;
    this.own.detach?.();
  }

  /** The decider says how many flows there may be, and whether any elsewhere. */
  #bound(): void {
    const limits = this.own.flowLimits?.() ?? {};
    if (limits.maximumFlows === 0) {
      this.#carried?.close();
      this.#carried = null;
    } else {
      this.#decided.flows.limit(limits);
      this.#apart?.decided.flows.limit(limits);
      this.#carried ??= this.#offer();
    }
    this.#look();
  }

  #offer(): CarriedDecisions | null {
    const handle = this.handle;
    const registry = flowRegistryOf(handle.host.services);
    // What headers say counts only where those that lie are handed up.
    if (registry?.strict !== true) return null;
    return new CarriedDecisions({
      handle,
      registry,
      forwarding: this.#forwarding,
      decided: this.#decided,
      forwarder: this,
      offer: { name: handle.name, hashSecret: this.#shared.datapath.hashSecret },
      recalls: true,
      hasPort: (portId) => this.ports.has(portId),
    });
  }

  /** Ports, policies or the stack may have changed: who is decided along, and who has a say elsewhere. */
  #look(): void {
    const { shortcuts } = this.handle;
    const along = shortcuts.decidersAbove();
    const here = [...along, this];
    if (this.#carried === null) this.#decided.decideBy(here);
    else this.#carried.changed();
    if (this.#carried === null || shortcuts.judgedPorts()?.length === 0) this.#beTogether();
    else this.#beApart(this.#carried, here);
    this.#beAlong(along);
  }

  /** What is offered runs here as well. */
  #beTogether(): void {
    this.#carried?.unwatch();
    this.#engine = this.#shared;
    this.#apart?.decided.flows.close();
    this.#apart = null;
  }

  /** Others judge packets before they come here. @param deciders who is asked about them then, from the top of the stack */
  #beApart(carried: CarriedDecisions, deciders: readonly StackedDecider[]): void {
    if (this.#apart === null) {
      const decided = this.#newFlows();
      decided.flows.limit(this.own.flowLimits?.() ?? {});
      this.#apart = this.#run(decided, this.#shared);
    }
    this.#apart.decided.decideBy(deciders);
    this.#engine = this.#apart;
    carried.watch();
  }

  #beAlong(along: readonly StackedDecider[]): void {
    for (const each of this.#along) each.settledBy(null);
    this.#along = along;
    for (const each of along) each.settledBy(() => this.#engine.decided.settle());
  }

  override onOidComplete(request: OidRequest, status: Status): void {
    super.onOidComplete(request, status);
    this.#carried?.changed();
  }

  onIngress(batch: Batch, flags: number): void {
    const nowMs = this.handle.host.nowMs();
    this.#turns.passed(nowMs);
    this.#forwarding.onIngress(batch, flags, nowMs);
  }

  explain(packet: Packet, context: ForwardingContext): Explanation {
    // What policies of ports say is told by the switch itself.
    const decided = this.#newFlows();
    decided.decideBy([...this.#along, this]);
    try {
      return explainForwarding(packet, context, decided, this.handle.policies, this.#buffers);
    } finally {
      decided.flows.close();
    }
  }

  protected override flowStatus(): Record<string, JsonValue> {
    return {
      deciders: this.#decided.names,
      ...this.#decided.status(),
      decidedAlong: this.#along.map(({ placed }) => placed.name),
      apart: this.#apart?.decided.status() ?? null,
    };
  }
}
