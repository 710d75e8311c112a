/** What is kept of a decision: everything that follows from it follows from this. pass.ts makes it. */
import type { PortId } from '../net/index.ts';
import type { FlowCounter } from './counter.ts';
import type { Look } from './marks.ts';

/** Why packets of a decision arrive nowhere. */
export interface DecidedDrop {
  /** The extension that drops it. */
  readonly by: string;
  /** As the extension named it, such as `DENIED`. */
  readonly reason: string;
  /** The port that it was to leave by; left out for what is dropped on its way down. */
  readonly portId?: PortId;
}

/** What people are told of a decision that was traced. */
export interface DecisionTrace {
  readonly looks: readonly Look[];
  /** Names of the observed state that was read. */
  readonly restsOn: readonly string[];
  /** Sentences of extensions, with who said them. */
  readonly notes: readonly { readonly by: string; readonly text: string }[];
}

/** The outcome of one pass through the deciders. */
export interface DecisionRecord {
  /** Bits that were looked at, in the shape of a flow key: packets that agree in them get the same decision. Of a packet that came, good until the next one is decided about. */
  readonly mask: Uint32Array;
  /** A list of actions of flow/; none when packets are dropped. */
  readonly actions: Int32Array;
  /** Null when they go somewhere. */
  readonly drop: DecidedDrop | null;
  /** Copies that do not leave, by port; when no other does, the last of them is not here but in {@link drop}. */
  readonly excluded: readonly { readonly portId: PortId; readonly drop: DecidedDrop }[];
  /** Counters that each packet moves. */
  readonly counters: readonly FlowCounter[];
  /** Extensions that had a say, in the order of the stack. */
  readonly deciders: readonly string[];
  /** How long it holds in milliseconds; infinite when only changes end it. */
  readonly endsInMs: number;
  /** Why each packet has to be decided about by itself; null when it need not. */
  readonly everyPacket: string | null;
  /** Packets are tracked, and looked up again with what is known of their connections; nothing else was decided. */
  readonly tracks: boolean;
  /** Null unless it was asked for. */
  readonly trace: DecisionTrace | null;
}
