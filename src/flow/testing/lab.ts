/** For tests: a datapath in memory that writes down all that leaves it. */
import { Batch, ClonePool, type Packet, PacketPool, toKeyPort } from '../../net/index.ts';
import { validateActions } from '../actions/validate.ts';
import { Datapath, type DatapathOptions } from '../datapath.ts';
import type { FlowHooks } from '../engine/hooks.ts';
import type { FlowKey } from '../key/key.ts';
import { PutMode } from '../table/contract.ts';
import { parseActions } from '../text/actions.ts';
import { parseFlowKey } from '../text/flow-key.ts';
import { packetOf } from './frames.ts';

export interface Sent {
  port: number;
  bytes: number[];
  /** Metadata of the packet as it left. */
  checksum: number;
  checksumStart: number;
  gsoType: number;
}

export class FlowLab {
  readonly sent: Sent[] = [];
  readonly missed: number[] = [];
  readonly pool = new PacketPool({ packets: 64, bufferBytes: 2048 });
  readonly copies = new PacketPool({ packets: 32, bufferBytes: 2048 });
  readonly clones = new ClonePool(32);
  readonly datapath: Datapath;
  nowMs = 1000;
  /** Packets that outputs keep until {@link release}. */
  readonly #kept: Packet[] = [];
  #keeps = false;

  constructor(hooks: Partial<FlowHooks> = {}, options: Partial<DatapathOptions> = {}) {
    this.datapath = new Datapath({
      hooks: {
        output: (packet, port) => this.note(packet, port),
        miss: (_packet: Packet, key: FlowKey) => {
          this.missed.push(key.inPort);
          return true;
        },
        ...hooks,
      },
      nowMs: () => this.nowMs,
      pool: this.copies,
      clones: this.clones,
      sampleSeed: 5,
      ...options,
    });
  }

  note(packet: Packet, port: number): void {
    const { checksum, checksumStart, gsoType } = packet;
    this.sent.push({ port, bytes: Array.from(packet.frame()), checksum, checksumStart, gsoType });
    if (!this.#keeps) return;
    packet.hold();
    this.#kept.push(packet);
  }

  /** From now on outputs keep what they are handed, as a queue for transmission does. */
  keepOutputs(): void {
    this.#keeps = true;
  }

  /** The bytes of what is kept, as they are now. */
  keptBytes(): number[][] {
    return this.#kept.map((packet) => Array.from(packet.frame()));
  }

  release(): void {
    for (const packet of this.#kept) packet.release();
    this.#kept.length = 0;
  }

  /** Put a flow; its actions are validated as an extension would. */
  flow(flow: string, actions: string): number {
    const { key, mask } = parseFlowKey(flow);
    const list = parseActions(actions);
    const flaw = validateActions(
      list,
      key.map((word, i) => word & mask[i]),
    );
    if (flaw !== null) throw new Error(flaw.message);
    return this.datapath.table.put({ key, mask, actions: list, ufid: null, mode: PutMode.CREATE });
  }

  /** Let a frame in. */
  receive(
    bytes: readonly number[] | Uint8Array,
    port = 1,
    change: (packet: Packet) => void = () => {},
    l3Type = 0,
  ): void {
    const packet = packetOf(bytes, this.pool);
    change(packet);
    const batch = new Batch();
    batch.push(packet);
    this.datapath.receive(batch, toKeyPort(port), l3Type);
  }

  /** Run actions over a frame under a flow that matches its port, and give back what was sent. */
  run(
    flow: string,
    actions: string,
    bytes: readonly number[],
    change: (packet: Packet) => void = () => {},
  ): number[][] {
    this.datapath.table.flush();
    this.sent.length = 0;
    this.flow(flow, actions);
    this.receive(bytes, 1, change, flow.includes('packet_type(ns=1') ? 0x0800 : 0);
    return this.sent.map((each) => each.bytes);
  }

  /** Buffers that are still held somewhere. */
  get held(): number {
    return 96 - this.pool.available - this.copies.available;
  }
}
