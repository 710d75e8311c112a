/**
 * A carrier whose look-ups are TypeScript and whose actions are eBPF: it shows that shapes, recirculation and counters fit together under
 * whole tables, and that the rounds themselves find what they should, with no part of the generated look-up in it.
 */
import { type FlowTable, KEY_WORDS, Word } from '../../flow/index.ts';
import { toInterfaceIndex } from '../../net/index.ts';
import { compileActions } from '../actions/compile.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { ActionsProgram, type CompiledFlow, Verdict } from './actions-program.ts';
import { isHandedUp, keyOf } from './packets.ts';
import type { Carried, Carrier } from './table-rounds.ts';

/** Passes of one packet after the first. */
const MAXIMUM_PASSES = 8;
const PUNTED: Carried = { verdict: 'punted', sent: [] };

export class LookUpCarrier implements Carrier {
  readonly strict = false;
  readonly #table: FlowTable;
  readonly #program: ActionsProgram;
  /** Number in the program of each flow's slot. */
  readonly #numbers = new Map<number, number>();
  /** What is to be added to the table: slot, length, TCP flags. */
  readonly #counted: [slot: number, lengthBytes: number, tcpFlags: number][] = [];

  constructor(
    table: FlowTable,
    hook: OffloadHook,
    hashSecret: { readonly low: number; readonly high: number },
    ifindexes: readonly number[],
  ) {
    this.#table = table;
    const flows: CompiledFlow[] = [];
    const key = new Uint32Array(KEY_WORDS);
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
      const mask = table.maskOf(slot).words;
      table.readKey(slot, key);
      const compiled = compileActions(
        table.actionsOf(slot),
        key.map((word, i) => word & mask[i]),
        mask,
        {
          hook,
          hashSecret,
          port: (port) =>
            port > ifindexes.length
              ? null
              : { ifindex: toInterfaceIndex(ifindexes[port - 1]), ingress: false, xdp: true },
        },
      );
      // Each look-up here is of the frame as it came.
      if ('reason' in compiled || compiled.shape.checks.undoes) continue;
      this.#numbers.set(slot, flows.length);
      flows.push(compiled);
    }
    this.#program = new ActionsProgram(hook, flows, ifindexes);
  }

  run(frame: Uint8Array, port: number): Carried {
    const key = keyOf(Array.from(frame), port);
    const passed: number[] = [];
    for (let pass = 0; pass <= MAXIMUM_PASSES; pass += 1) {
      const slot = this.#table.match(key.words);
      const flow = this.#numbers.get(slot);
      if (flow === undefined || isHandedUp(frame, this.#table.maskOf(slot).words)) return PUNTED;
      passed.push(slot);
      const run = this.#program.tryRun(frame, { flow, layer3: key.l3Offset, key: key.words });
      if (run === null || run.result === Verdict.PUNT) return PUNTED;
      if (run.result === Verdict.RECIRCULATE) {
        key.words[Word.RECIRC_ID] = run.recircId;
        if (run.hash !== 0) key.words[Word.DP_HASH] = run.hash;
        continue;
      }
      for (const each of passed) this.#counted.push([each, frame.length, key.words[Word.TCP_FLAGS] >>> 16]);
      if (run.result === Verdict.FAILED) return { verdict: 'lost', sent: run.sent };
      return { verdict: run.sent.length > 0 ? 'sent' : 'dropped', sent: run.sent };
    }
    return PUNTED;
  }

  sync(): void {
    for (const [slot, lengthBytes, tcpFlags] of this.#counted) this.#table.addCounts(slot, 1, lengthBytes, tcpFlags, 1);
    this.#counted.length = 0;
  }

  close(): void {
    this.#program.close();
  }
}
