/** What a decider is: the contract between whoever decides about packets and whoever keeps and runs what was decided. */
import type { PortId } from '../net/index.ts';
import type { FlowCounter } from './counter.ts';
import type { Decision } from './decision.ts';
import type { PacketView } from './packet-view.ts';

/** Whether it may send packets, or only let them pass, change or drop them. */
export type DeciderType = 'filtering' | 'forwarding';

/** Says why a packet may not leave through a port. */
export interface OutputDecision {
  /** As Decision.drop, for this port alone. */
  drop(reason: string, why?: () => string): void;
  /** As Decision.note. */
  note(text: () => string): void;
  /** As Decision.everyPacket. */
  everyPacket(reason: string): void;
  /** Let each copy that is to leave there count into a counter, whether it does or not. */
  count(counter: FlowCounter): void;
}

/**
 * Decides about packets. What it decides may depend on the packet, as it reads it through the view, and on observed state; on nothing else, as
 * no clock and no random number: what was decided is kept, and done to all packets that agree in what was read, until something changes that was read.
 */
export interface Decider {
  /**
   * Decide about a packet on its way down. A filtering decider that says nothing lets it pass to the next. A forwarding decider that sends it nowhere
   * drops it.
   */
  decide?(packet: PacketView, decision: Decision): void;
  /** Filtering: decide whether a packet, as it has become, may leave through a port. */
  decideOutput?(packet: PacketView, portId: PortId, decision: OutputDecision): void;
}

/** A decider in its place. */
export interface PlacedDecider {
  readonly name: string;
  readonly type: DeciderType;
  readonly decider: Decider;
  /** Whether it has a say about packets of a port, or about those of them that leave by another; left out, it always has. It is asked within the decision. */
  concerns?(inPort: PortId, outPort: PortId | null): boolean;
  /**
   * Of who stands for the ports themselves: what happens to the outermost VLAN tag of a packet, as it has become, while it leaves by a port.
   * @returns a TagAction of net/, with the TCI in its low bits; never STRIP and PUSH together
   */
  tagOf?(packet: PacketView, portId: PortId, decision: OutputDecision): number;
  /** How it is called, for whoever guards extensions: what it throws is then its own affair. Plainly, when left out. */
  call?(where: string, run: () => void): void;
}

/** Call a decider. */
export function callDecider(placed: PlacedDecider, where: string, run: () => void): void {
  if (placed.call === undefined) run();
  else placed.call(where, run);
}
