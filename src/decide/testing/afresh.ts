/** For tests only: packets that are decided about one by one, with nothing kept, and what leaves. */
import { Datapath, type FlowHooks, type FlowKey, type FlowTable } from '../../flow/index.ts';
import { ClonePool, type Packet, PacketPool } from '../../net/index.ts';
import type { PlacedDecider } from '../decider.ts';
import { Pass, PassKind } from '../pass.ts';
import type { ObservedPorts } from '../state/ports.ts';

/** A datapath that says what leaves it: the port and the frame in hexadecimal. */
export function datapath(sent: (text: string) => void, hooks: Partial<FlowHooks> = {}, table?: FlowTable): Datapath {
  return new Datapath({
    hooks: { output: (packet, port) => sent(`${port} ${Buffer.from(packet.frame()).toString('hex')}`), ...hooks },
    nowMs: () => 1,
    pool: new PacketPool({ packets: 64, bufferBytes: 2048 }),
    clones: new ClonePool(64),
    ...(table === undefined ? {} : { table }),
  });
}

export class Afresh {
  /** What left of the last packet. */
  sent: string[] = [];
  /** Who dropped it and why, or null. */
  dropped: string | null = null;
  /** Packets, by counter. */
  readonly counts = new Map<string, number>();
  readonly #pass: Pass;
  readonly #datapath: Datapath;

  constructor(ports: ObservedPorts) {
    this.#pass = new Pass(ports);
    this.#datapath = datapath((text) => this.sent.push(text));
  }

  /** @param packet whose reference passes over */
  run(packet: Packet, key: FlowKey, deciders: readonly PlacedDecider[]): void {
    this.sent = [];
    const record = this.#pass.run(key.words, deciders, PassKind.RECALL);
    this.dropped = record.drop === null ? null : `${record.drop.by}:${record.drop.reason}`;
    for (const { name } of record.counters) this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    this.#datapath.execute(packet, key, record.actions);
  }
}
