/**
 * What test runs cannot have: super-packets and partial checksums. A generated tc program stands on a TAP; packets with these come in
 * through it, and what comes out of others must be what the engine makes of them, bytes and state alike.
 */
import { attachTcx } from '../../bpf/index.ts';
import { Datapath, FlowKey, formatActions } from '../../flow/index.ts';
import {
  type Adapter,
  Batch,
  Checksum,
  ClonePool,
  Gso,
  type Packet,
  PacketPool,
  TagAction,
  toInterfaceIndex,
  toKeyPort,
} from '../../net/index.ts';
import { compileActions } from '../actions/compile.ts';
import { ActionsProgram, type CompiledFlow, Verdict } from './actions-program.ts';
import { type ActionsTally, Divergence } from './actions-rounds.ts';
import { OUTPUT_PORTS, type RandomFlow, randomFlow } from './flows.ts';
import { type FrameKind, hostKind, hostOffsets, makePartial, randomFrame } from './frames.ts';
import { keyOf, packetOf } from './packets.ts';
import { RandomSource } from './random.ts';

/** Where packets meet the program: as they come in at the interface, or as the host sends them through it. */
export type LiveDirection = 'ingress' | 'egress';

/** An adapter, and its interface. */
export interface LivePort {
  readonly adapter: Adapter;
  readonly ifindex: number;
}

interface Candidate {
  readonly kind: FrameKind;
  readonly flow: RandomFlow;
  readonly compiled: CompiledFlow;
}

const GSO_BYTES = 500;

/** What a packet is compared by. */
function describe(port: number, packet: Packet): string {
  const bytes = Buffer.from(packet.frame()).toString('hex');
  const partial = packet.checksum === Checksum.PARTIAL ? ` partial from ${packet.checksumStart}` : '';
  const gso = packet.gsoType === 0 ? '' : ` segments ${packet.gsoType} of ${packet.gsoSizeBytes}`;
  return `${port} ${bytes}${partial}${gso}`;
}

export class LiveActions {
  readonly #input: LivePort;
  readonly #outputs: readonly LivePort[];
  readonly #datapath: Datapath;
  readonly #batch = new Batch();
  /** Packets that came out of at least one TAP. */
  sent = 0;
  #expected: string[] = [];
  #ended = false;

  readonly #direction: LiveDirection;

  /** @param outputs of the ports 1 to OUTPUT_PORTS */
  constructor(input: LivePort, direction: LiveDirection, outputs: readonly LivePort[]) {
    this.#direction = direction;
    this.#input = input;
    this.#outputs = outputs;
    this.#datapath = new Datapath({
      hooks: {
        output: (packet, port) => this.#expected.push(describe(port, packet)),
        miss: () => true,
        dropped: () => {
          this.#ended = true;
        },
      },
      nowMs: () => 0,
      pool: new PacketPool({ packets: 64, bufferBytes: 8192 }),
      clones: new ClonePool(64),
    });
  }

  /** Some flows under one program, some packets of each. @throws Divergence */
  round(seed: number, tally: ActionsTally): void {
    const random = new RandomSource(seed);
    const candidates: Candidate[] = [];
    while (candidates.length < 16) {
      const kind = hostKind(random, random.pick([0, 30, 1600]));
      const words = keyOf(randomFrame(random, kind), 1).words;
      const flow = randomFlow(random, words, 1000);
      const compiled = compileActions(flow.actions, flow.key, flow.mask, {
        hook: 'tc',
        port: (number) =>
          number > OUTPUT_PORTS
            ? null
            : { ifindex: toInterfaceIndex(this.#outputs[number - 1].ifindex), ingress: false, xdp: false },
      });
      if (!('reason' in compiled)) candidates.push({ kind, flow, compiled });
    }
    const program = new ActionsProgram(
      'tc',
      candidates.map(({ compiled }) => compiled),
      [],
    );
    const link = attachTcx({ program: program.program, netdev: this.#input.ifindex, direction: this.#direction });
    try {
      candidates.forEach((candidate, number) => {
        for (let i = 0; i < 10; i += 1) this.#case(program, random, number, candidate, seed, tally);
      });
    } finally {
      link.close();
      program.close();
    }
  }

  #offloads(packet: Packet, kind: FrameKind): void {
    const { layer4 } = hostOffsets(kind);
    packet.checksum = Checksum.PARTIAL;
    packet.checksumStart = layer4;
    packet.checksumOffset = kind.protocol === 6 ? 16 : 6;
    if ((kind.payloadBytes ?? 0) <= GSO_BYTES) return;
    packet.gsoType = kind.protocol === 17 ? Gso.UDP_L4 : kind.network === 'ipv4' ? Gso.TCPV4 : Gso.TCPV6;
    packet.gsoSizeBytes = GSO_BYTES;
    packet.headerLengthBytes = layer4 + (kind.protocol === 6 ? 20 : 8);
  }

  #case(
    program: ActionsProgram,
    random: RandomSource,
    number: number,
    { kind, flow, compiled }: Candidate,
    seed: number,
    tally: ActionsTally,
  ): void {
    const bytes = randomFrame(random, kind);
    makePartial(bytes, kind);
    const key = keyOf(bytes, 1);
    for (let i = 0; i < flow.mask.length; i += 1) if (((key.words[i] ^ flow.key[i]) & flow.mask[i]) !== 0) return;
    program.arm(Uint8Array.from(bytes), { flow: number, layer3: key.l3Offset, key: key.words });
    const sent = packetOf(bytes);
    this.#offloads(sent, kind);
    this.#input.adapter.transmit(sent, TagAction.KEEP);
    this.#input.adapter.flush();
    sent.release();
    const found = this.#received();
    const { result } = program.taken();
    tally.cases += 1;
    if (result === Verdict.PUNT && found.length === 0) {
      tally.punted += 1;
      return;
    }
    this.#expected = [];
    this.#ended = false;
    const packet = packetOf(bytes);
    this.#offloads(packet, kind);
    const metadata = new FlowKey();
    metadata.begin(toKeyPort(1));
    this.#datapath.execute(packet, metadata, flow.actions);
    // Each port keeps its order; between ports there is none.
    const expected = this.#expected.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
    if (found.join('\n') !== expected.join('\n') || result === Verdict.FAILED) {
      throw new Divergence(
        `MILLRACE_SEED=${seed} (live): actions ${formatActions(flow.actions)}\nshape ${compiled.shape.id}\n` +
          `engine${this.#ended ? ' (dropped)' : ''}\n${expected.join('\n')}\nprogram, result ${result}\n${found.join('\n')}`,
      );
    }
    tally.carried += 1;
    if (found.length > 0) this.sent += 1;
    for (const step of compiled.shape.steps) tally.steps.set(step.kind, (tally.steps.get(step.kind) ?? 0) + 1);
  }

  #received(): string[] {
    const found: string[] = [];
    this.#outputs.forEach(({ adapter }, i) => {
      while (adapter.receive(this.#batch, 32) > 0) {
        for (let at = 0; at < this.#batch.count; at += 1) found.push(describe(i + 1, this.#batch.packets[at]));
        this.#batch.releaseAll();
      }
    });
    return found;
  }
}
