/**
 * Rounds of the differential test of actions/: random flows are compiled, and random frames that they match go through the engine and
 * through the generated program. What is sent, dropped or recirculated must be the same; what is punted says nothing and is counted.
 */
import { Datapath, Drop, FlowKey, formatActions, KEY_WORDS, Word } from '../../flow/index.ts';
import { ClonePool, PacketPool, toInterfaceIndex, toKeyPort } from '../../net/index.ts';
import { compileActions } from '../actions/compile.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { ActionsProgram, type CompiledFlow, Verdict } from './actions-program.ts';
import { OUTPUT_PORTS, type RandomFlow, randomFlow } from './flows.ts';
import { type FrameKind, randomFrame, randomKind } from './frames.ts';
import { isHandedUp, keyOf, packetOf } from './packets.ts';
import { RandomSource } from './random.ts';

/** What came of the cases. */
export interface ActionsTally {
  cases: number;
  carried: number;
  punted: number;
  flows: number;
  refused: number;
  /** Reasons of refused flows. */
  readonly reasons: Map<string, number>;
  /** Kinds of steps that carried packets. */
  readonly steps: Map<string, number>;
}

export function emptyTally(): ActionsTally {
  return { cases: 0, carried: 0, punted: 0, flows: 0, refused: 0, reasons: new Map(), steps: new Map() };
}

/** The two sides disagree. The message has all that is needed to see it again. */
export class Divergence extends Error {}

interface Candidate {
  readonly kind: FrameKind;
  readonly flow: RandomFlow;
  readonly compiled: CompiledFlow;
}

/** What the engine did with a frame, and what it is compared by. */
interface Outcome {
  readonly sent: { readonly port: number; readonly bytes: string; readonly mark: number; readonly priority: number }[];
  readonly drops: number[];
  recircId: number;
  hash: number;
}

const SENT = { tc: 7, xdp: 4 } as const;

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

function add(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** The engine's side, and the rounds. */
export class ActionsDifferential {
  readonly #datapath: Datapath;
  readonly #ifindexes: readonly number[];
  #outcome: Outcome = { sent: [], drops: [], recircId: 0, hash: 0 };

  /** @param ifindexes of the ports 1 to OUTPUT_PORTS, in the namespace that this runs in */
  constructor(ifindexes: readonly number[]) {
    this.#ifindexes = ifindexes;
    this.#datapath = new Datapath({
      hooks: {
        output: (packet, port, key) => {
          const { words } = key;
          const bytes = hex(packet.frame());
          this.#outcome.sent.push({ port, bytes, mark: words[Word.MARK], priority: words[Word.PRIORITY] });
        },
        miss: (_packet, key) => {
          this.#outcome.recircId = key.recircId;
          this.#outcome.hash = key.words[Word.DP_HASH];
          return true;
        },
        dropped: (_packet, reason) => this.#outcome.drops.push(reason),
      },
      nowMs: () => 0,
      pool: new PacketPool({ packets: 64, bufferBytes: 2048 }),
      clones: new ClonePool(64),
    });
  }

  /**
   * One program, and many frames through it.
   * @param seed of this round alone
   * @throws Divergence
   */
  round(hook: OffloadHook, seed: number, tally: ActionsTally, flows = 24, framesOfFlow = 60): void {
    const random = new RandomSource(seed);
    const candidates: Candidate[] = [];
    for (let i = 0; i < flows; i += 1) {
      const kind = randomKind(random);
      const words = keyOf(randomFrame(random, kind), 1).words;
      const flow = randomFlow(random, words);
      tally.flows += 1;
      const compiled = compileActions(flow.actions, flow.key, flow.mask, {
        hook,
        hashSecret: this.#datapath.hashSecret,
        port: (number) =>
          number > OUTPUT_PORTS
            ? null
            : { ifindex: toInterfaceIndex(this.#ifindexes[number - 1]), ingress: number === 2, xdp: true },
      });
      if ('reason' in compiled) {
        tally.refused += 1;
        add(tally.reasons, compiled.reason);
      } else candidates.push({ kind, flow, compiled });
    }
    const program = new ActionsProgram(
      hook,
      candidates.map(({ compiled }) => compiled),
      this.#ifindexes,
    );
    try {
      for (const [number, candidate] of candidates.entries()) {
        for (let i = 0; i < framesOfFlow; i += 1) this.#case(program, random, number, candidate, seed, tally);
      }
    } finally {
      program.close();
    }
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
    const key = keyOf(bytes, 1);
    for (let i = 0; i < KEY_WORDS; i += 1) if (((key.words[i] ^ flow.key[i]) & flow.mask[i]) !== 0) return;
    const frame = Uint8Array.from(bytes);
    if (isHandedUp(frame, flow.mask)) return;
    const run = program.tryRun(frame, { flow: number, layer3: key.l3Offset, key: key.words });
    // The kernel does not test programs on IP packets without an IP header.
    if (run === null) return;
    const outcome: Outcome = { sent: [], drops: [], recircId: 0, hash: 0 };
    this.#outcome = outcome;
    const metadata = new FlowKey();
    metadata.begin(toKeyPort(1));
    this.#datapath.execute(packetOf(bytes), metadata, flow.actions);
    const expected = this.#describe(program.hook, outcome);
    const found =
      run.result === Verdict.PUNT && run.sent.length === 0
        ? 'punt'
        : describe(
            // All that there was to send went as copies.
            run.result === Verdict.DROP && run.sent.length > 0 ? SENT[program.hook] : run.result,
            run.sent.map((each) => `${each.ifindex} ${hex(each.frame)} ${each.mark} ${each.priority}`),
            run.result === Verdict.RECIRCULATE ? `${run.recircId} ${run.hash}` : '',
          );
    tally.cases += 1;
    if (found === 'punt') {
      tally.punted += 1;
      return;
    }
    if (found !== expected) {
      const actions = formatActions(flow.actions);
      throw new Divergence(
        `MILLRACE_SEED=${seed} (${program.hook}): actions ${actions}\nshape ${compiled.shape.id}\nframe ${hex(frame)}\n` +
          `engine  ${expected}\nprogram ${found}`,
      );
    }
    tally.carried += 1;
    for (const step of compiled.shape.steps) add(tally.steps, step.kind);
  }

  #describe(hook: OffloadHook, outcome: Outcome): string {
    const sent = outcome.sent.map(
      (each) => `${this.#ifindexes[each.port - 1]} ${each.bytes} ${each.mark} ${each.priority}`,
    );
    if (outcome.recircId !== 0 && sent.length === 0) {
      return describe(Verdict.RECIRCULATE, sent, `${outcome.recircId} ${outcome.hash}`);
    }
    if (outcome.drops.length > 1) return `several drops: ${outcome.drops.join()}`;
    const reason = outcome.drops[0] ?? 0;
    if (sent.length === 0) return describe(Verdict.DROP + reason, sent, '');
    return describe(SENT[hook], sent, reason === 0 ? '' : `drop ${reason === Drop.HEADER_MISSING ? 'header' : reason}`);
  }
}

function describe(verdict: number, sent: readonly string[], more: string): string {
  return [`verdict ${verdict}`, ...sent, more].join('\n    ');
}
