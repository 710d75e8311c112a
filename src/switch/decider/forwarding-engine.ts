/**
 * Flows of a forwarding decider as they run here, over packets that come through the switch: outputs become destinations, and what no flow matches is decided about.
 * Neighbours: forwarding.ts says which flows these are; path/flow-forwarding.ts hands the packets in.
 */
import { asPortNumber, type KeptDecision, nicIn, portIn } from '../../decide/index.ts';
import { Datapath, Drop } from '../../flow/index.ts';
import { ClonePool, PacketPool, type PortId } from '../../net/index.ts';
import type { DropReasonCode } from '../drop-reason.ts';
import type { FlowForwarding } from '../path/flow-forwarding.ts';
import { connectionOf, type StackedFlows } from './stacked-flows.ts';

const BUFFERS = { packets: 1024, bufferBytes: 2304, largePackets: 32, largeBufferBytes: 66_048, clones: 1024 };

/** Memory for copies that are changed. */
export class ForwardingBuffers {
  readonly pool = new PacketPool({ packets: BUFFERS.packets, bufferBytes: BUFFERS.bufferBytes });
  readonly largePool = new PacketPool({ packets: BUFFERS.largePackets, bufferBytes: BUFFERS.largeBufferBytes });
  readonly clones = new ClonePool(BUFFERS.clones);
}

export interface ForwardingEngineOptions {
  readonly decided: StackedFlows;
  readonly forwarding: FlowForwarding;
  readonly buffers: ForwardingBuffers;
  readonly nowMs: () => number;
  /** Another engine: those of one extension hash alike. */
  readonly like?: ForwardingEngine;
}

export class ForwardingEngine {
  readonly decided: StackedFlows;
  readonly datapath: Datapath;

  constructor({ decided, forwarding, buffers, nowMs, like }: ForwardingEngineOptions) {
    const { flows } = decided;
    const { pool, largePool, clones } = buffers;
    const secret = like?.datapath.hashSecret;
    this.decided = decided;
    this.datapath = new Datapath({
      table: flows.table,
      countsTcpFlags: false,
      nowMs,
      pool,
      largePool,
      clones,
      ...(secret === undefined ? {} : { hashSeed: [secret.low, secret.high] }),
      hooks: {
        outputIgnoresKey: true,
        connectionOf,
        isPlain: (slot) => !flows.hasExcluded(slot),
        output: (packet, port) => {
          const number = asPortNumber(port);
          if (!forwarding.forward(packet, portIn(number), nicIn(number)))
            this.datapath.refuse(packet, Drop.OUTPUT_REFUSED);
        },
        decide: (packet, key) => flows.decide(key, () => packet.frame()),
        dropped: (_, reason) => forwarding.dropped(reason),
        ended: (reason) => {
          decided.countExcluded(this.#record(), 1);
          forwarding.ended(reason);
        },
      },
    });
  }

  /** What was decided about the present packet. */
  #record(): KeptDecision | null {
    const { slot } = this.datapath;
    const { flows } = this.decided;
    return slot === -1 ? flows.onlyRecord : flows.recordOf(slot);
  }

  /** Why the present packet is dropped, as far as that was decided. @param drop of Drop of flow/ */
  reasonOf(drop: number): DropReasonCode | undefined {
    return drop === Drop.FLOW ? this.decided.reasonOf(this.#record()?.drop) : undefined;
  }

  /** The port that the present packet was to leave by, when it is dropped because of that; else -1. */
  dropPort(drop: number): PortId | -1 {
    return drop === Drop.FLOW ? this.decided.portOf(this.#record()?.drop) : -1;
  }
}
