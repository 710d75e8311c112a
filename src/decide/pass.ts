/**
 * One pass of a packet through all deciders, from which a record is made. Nothing of it outlives the call but the record. Neighbours: decided-flows.ts keeps
 * records as flows; state/observed.ts notes what is read.
 */
import { KEY_WORDS, validateActions, Word } from '../flow/index.ts';
import { type PortId, TagAction, toPortId } from '../net/index.ts';
import { callDecider, type OutputDecision, type PlacedDecider } from './decider.ts';
import { checkDrop, Decision } from './decision.ts';
import { DecisionError, shown } from './errors.ts';
import { PacketState } from './packet-state.ts';
import { PacketView } from './packet-view.ts';
import { PORT_NUMBERS, portIn, sourceIn } from './port-number.ts';
import type { DecidedDrop, DecisionRecord } from './record.ts';
import { Reading, whileReading } from './state/observed.ts';
import type { ObservedPorts } from './state/ports.ts';

/** What a pass is for. */
export const PassKind = {
  /** A packet came: effects are carried out. */
  TRANSLATE: 0,
  /** What was decided before is decided again: nothing may be done because of it. */
  RECALL: 1,
  /** Somebody wants to know: likewise, and everything that was looked at is told. */
  TRACE: 2,
} as const;

/** A packet whose effects change what it rests on is decided about again, at most so often. */
const MOST_PASSES = 3;

/** Forwarding deciders that said nothing. */
const NOT_FORWARDED: Omit<DecidedDrop, 'by'> = { reason: 'NOT_FORWARDED' };

/** A decision is made when its function returns: what comes later is about no packet. @throws DecisionError for a promise */
function mustBeDone(name: string, returned: unknown): void {
  if (returned instanceof Promise)
    throw new DecisionError(`${name} decides with a promise: what it has to say comes too late`);
}

/** A note as its decider words it. */
function textOf(note: () => string): string {
  try {
    const text: unknown = note();
    return typeof text === 'string' ? text : shown(text);
  } catch {
    return 'its note cannot be read: making it has failed';
  }
}

function forwarderOf(deciders: readonly PlacedDecider[]): string {
  return deciders.find(({ type }) => type === 'forwarding')?.name ?? '';
}

export class Pass {
  /** What the last pass has read of observed state. Whoever keeps its record ties it to this before the next pass. */
  readonly reading = new Reading();
  readonly #state = new PacketState();
  readonly #view: PacketView;
  readonly #decision: Decision;
  readonly #tracks: () => boolean;
  readonly #restsOn: ((inPort: PortId) => void) | null;
  readonly #masked = new Uint32Array(KEY_WORDS);
  /** Names of deciders that had a say. */
  readonly #asked = new Set<string>();
  #isUnderWay = false;
  #inPort: PortId = toPortId(0);
  #lastAsked: readonly string[] = [];

  /**
   * @param tracks whether packets whose connections decisions ask for can be tracked where they run, and looked up again
   * @param restsOn reads what every decision about packets of a port rests on; null for nothing
   */
  constructor(
    ports: ObservedPorts,
    tracks: () => boolean = () => false,
    restsOn: ((inPort: PortId) => void) | null = null,
  ) {
    this.#tracks = tracks;
    this.#restsOn = restsOn;
    this.#view = new PacketView(this.#state);
    this.#decision = new Decision(this.#state, ports);
  }

  /**
   * Decide about a packet.
   * @param key words of its flow key
   * @param deciders from the top of the stack; those that filter before the one that forwards, which may be missing: then `next` is told
   * @param kind of PassKind
   * @param frame gives the packet's bytes, when there is one
   * @param ranTo where such packets went before a restart, when that is why it is decided again; else null
   * @throws DecisionError for what no decision can hold; whatever a decider throws
   */
  run(
    key: Uint32Array,
    deciders: readonly PlacedDecider[],
    kind: number,
    frame: (() => Uint8Array) | null = null,
    ranTo: readonly PortId[] | null = null,
  ): DecisionRecord {
    // The view and all else here is of one packet at a time.
    if (this.#isUnderWay) throw new DecisionError('a decision leads to another one before it is made');
    this.#isUnderWay = true;
    this.#decision.ranTo = ranTo;
    try {
      let record = this.#once(key, deciders, kind, frame);
      for (let pass = 1; this.#decision.hasActed && this.reading.isStale; pass += 1) {
        if (pass === MOST_PASSES) return { ...record, everyPacket: 'what it does changes what it rests on, each time' };
        record = this.#once(key, deciders, kind, frame);
      }
      return record;
    } finally {
      this.#decision.close();
      this.#isUnderWay = false;
    }
  }

  #once(
    key: Uint32Array,
    deciders: readonly PlacedDecider[],
    kind: number,
    frame: (() => Uint8Array) | null,
  ): DecisionRecord {
    const state = this.#state;
    const decision = this.#decision;
    this.#inPort = portIn(sourceIn(key));
    state.begin(key, kind === PassKind.TRACE);
    this.#view.begin(frame);
    // A flow is of one port and one look-up, and so are its counts.
    state.marks.add(Word.IN_PORT, 0xffff_ffff);
    state.marks.add(Word.RECIRC_ID, 0xffff_ffff);
    const tagger = deciders.find(({ tagOf }) => tagOf !== undefined);
    decision.begin(
      (portId) => this.#judgeOutput(portId, deciders),
      tagger === undefined ? null : (portId) => this.#tagOf(portId, tagger),
      kind === PassKind.TRANSLATE,
      this.#tracks(),
    );
    this.reading.clear();
    this.#asked.clear();
    whileReading(this.reading, () => this.#ask(deciders));
    const { actions, drop, excluded, counters, endsInMs, everyPacket, notes, tracks } = decision.soFar();
    const { mask } = state.marks;
    for (let i = 0; i < KEY_WORDS; i += 1) this.#masked[i] = key[i] & mask[i];
    const flaw = validateActions(actions, this.#masked, { portLimit: PORT_NUMBERS });
    if (flaw !== null)
      throw new DecisionError(`${state.marks.by || 'nobody'} decided what cannot be done: ${flaw.message}`);
    return {
      mask: kind === PassKind.TRANSLATE ? mask : mask.slice(),
      actions,
      drop: actions.length > 0 ? null : (drop ?? { by: forwarderOf(deciders), ...NOT_FORWARDED }),
      excluded,
      counters,
      deciders: this.#namesOfAsked(deciders),
      endsInMs,
      everyPacket,
      tracks,
      trace:
        kind === PassKind.TRACE
          ? {
              looks: state.marks.looks ?? [],
              restsOn: this.reading.names(),
              notes: notes.map(({ by, text }) => ({ by, text: textOf(text) })),
            }
          : null,
    };
  }

  /** Those that had a say, from the top of the stack. Mostly they are the same: one list serves many records. */
  #namesOfAsked(deciders: readonly PlacedDecider[]): readonly string[] {
    const asked = this.#asked;
    const last = this.#lastAsked;
    let count = 0;
    for (const { name } of deciders) {
      if (!asked.has(name)) continue;
      if (last[count] !== name) count = Number.POSITIVE_INFINITY;
      count += 1;
    }
    if (count !== last.length) this.#lastAsked = deciders.flatMap(({ name }) => (asked.has(name) ? [name] : []));
    return this.#lastAsked;
  }

  #ask(deciders: readonly PlacedDecider[]): void {
    this.#restsOn?.(this.#inPort);
    for (const placed of deciders) {
      const { decider, name, type } = placed;
      if (decider.decide === undefined || placed.concerns?.(this.#inPort, null) === false) continue;
      this.#asked.add(name);
      this.#decision.turn(name, type === 'forwarding');
      callDecider(placed, 'decide', () => mustBeDone(name, decider.decide?.(this.#view, this.#decision)));
      if (this.#decision.isOver || type === 'forwarding') return;
    }
  }

  /** From the bottom: what one refuses the others do not see. */
  #judgeOutput(portId: PortId, deciders: readonly PlacedDecider[]): DecidedDrop | null {
    const forwarder = this.#state.marks.by;
    let refusal: DecidedDrop | null = null;
    for (let i = deciders.length - 1; i >= 0 && refusal === null; i -= 1) {
      const placed = deciders[i];
      const { decider, name } = placed;
      if (decider.decideOutput === undefined || placed.concerns?.(this.#inPort, portId) === false) continue;
      this.#asked.add(name);
      this.#decision.turn(name, false);
      const output = this.#outputDecision(name, (reason) => {
        refusal ??= { by: name, reason };
      });
      callDecider(placed, 'decideOutput', () => mustBeDone(name, decider.decideOutput?.(this.#view, portId, output)));
    }
    this.#decision.turn(forwarder, true);
    return refusal;
  }

  #tagOf(portId: PortId, tagger: PlacedDecider): number {
    if (tagger.concerns?.(this.#inPort, portId) === false) return TagAction.KEEP;
    const forwarder = this.#state.marks.by;
    this.#decision.turn(tagger.name, false);
    const tag = tagger.tagOf?.(
      this.#view,
      portId,
      this.#outputDecision(tagger.name, () => {}),
    );
    this.#decision.turn(forwarder, true);
    return tag ?? TagAction.KEEP;
  }

  #outputDecision(by: string, drop: (reason: string) => void): OutputDecision {
    const decision = this.#decision;
    return {
      drop: (reason, why) => {
        checkDrop(by, reason, why);
        drop(reason);
        if (why !== undefined) decision.note(why);
      },
      note: (text) => decision.note(text),
      everyPacket: (reason) => decision.everyPacket(reason),
      count: (counter) => decision.countCopy(counter),
    };
  }
}
