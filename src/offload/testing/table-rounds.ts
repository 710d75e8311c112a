/**
 * Rounds of the differential test of all of offload/: a random flow table goes into the engine's datapath and into a table that is
 * offloaded, and random frames through both. What the program carries must be what the engine does, and in the end the same counters
 * must stand at every flow. What it punts goes through an engine over the offloaded table, and is told apart by whether a flow is there.
 */
import type { Connections } from '../../connections/index.ts';
import {
  Datapath,
  dropName,
  type FlowKey,
  FlowTable,
  formatActions,
  KEY_WORDS,
  outcomeOf,
  PutMode,
  Word,
} from '../../flow/index.ts';
import {
  Batch,
  ClonePool,
  HeaderOffsets,
  Malformed,
  malformedName,
  type Packet,
  PacketPool,
  toKeyPort,
} from '../../net/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { Divergence } from './actions-rounds.ts';
import { hostileFrame, randomFrame } from './frames.ts';
import { keyOf, packetOf } from './packets.ts';
import { RandomSource } from './random.ts';
import { randomTable } from './tables.ts';

/** One frame that a program sent, as it is on a wire. */
export interface CarriedFrame {
  readonly ifindex: number;
  readonly frame: Uint8Array;
}

/** What a program did with a frame. */
export interface Carried {
  /** Lost is what must never be: a packet that could neither be carried to its end nor punted any more. */
  readonly verdict: 'punted' | 'sent' | 'dropped' | 'lost' | 'resumed';
  readonly sent: readonly CarriedFrame[];
  /** Handed up as it is now, with its record, to go on in the engine. */
  readonly resumed?: { readonly frame: Uint8Array; readonly record: Uint8Array };
}

/** The offload under test, over one flow table. */
export interface Carrier {
  /** It hands up packets whose headers lie, where a flow looks at IP. */
  readonly strict: boolean;
  /** Run the program as if a frame had come in at a port. */
  run(frame: Uint8Array, port: number): Carried;
  /** Bring what the program counted into the flow table. */
  sync(): void;
  /** Packets that it dropped, by reason of flow/'s Drop. Left out where nothing counts them. */
  drops?(): ReadonlyMap<number, number>;
  close(): void;
}

/** Offload a table. @param ifindexes of the ports, from port 1 on */
export type MakeCarrier = (
  table: FlowTable,
  hook: OffloadHook,
  hashSecret: { readonly low: number; readonly high: number },
  ifindexes: readonly number[],
) => Carrier;

/** What came of the cases. */
export interface TableTally {
  cases: number;
  carried: number;
  /** Punted though the engine found a flow. */
  punted: number;
  /** Punted for lack of a flow. */
  missed: number;
  /** Handed up in the middle of their way. */
  resumed: number;
  flows: number;
}

export function emptyTableTally(): TableTally {
  return { cases: 0, carried: 0, punted: 0, missed: 0, resumed: 0, flows: 0 };
}

const headers = new HeaderOffsets();

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

/** What the engine did with one frame. */
export class EngineSide {
  readonly table = new FlowTable();
  readonly datapath: Datapath;
  sent: string[] = [];
  missed = false;
  /** What became of the packet: 0, or a reason of Drop. */
  fate = 0;
  readonly #batch = new Batch();
  #missedKey = '';
  readonly #ifindexes: readonly number[];

  /** @param connections by which ct actions go */
  constructor(ifindexes: readonly number[], seed: number, connections?: Connections) {
    this.#ifindexes = ifindexes;
    this.datapath = new Datapath({
      table: this.table,
      hooks: {
        output: (packet, port) => this.sent.push(`${this.#ifindexes[port - 1]} ${hex(packet.frame())}`),
        miss: (_packet, { words }) => {
          this.missed = true;
          this.#missedKey = words.slice(0, Word.TUNNEL).join(' ');
          return true;
        },
        ended: (reason) => {
          this.fate = reason;
        },
        handDown: (_slot, packet, key) => this.handDown(packet, key),
      },
      nowMs: () => 1,
      pool: new PacketPool({ packets: 64, bufferBytes: 2048 }),
      clones: new ClonePool(64),
      hashSeed: [seed, 1],
      ...(connections === undefined ? {} : { connections }),
    });
  }

  run(frame: readonly number[], port: number): void {
    this.#begin();
    this.#batch.push(packetOf(frame));
    this.datapath.receive(this.#batch, toKeyPort(port));
  }

  /** Go on with what a program has handed up. */
  resume(frame: Uint8Array, port: number, record: Uint8Array): void {
    this.#begin();
    this.datapath.resume(packetOf(frame), toKeyPort(port), { bytes: record, at: 0, length: record.length });
  }

  #begin(): void {
    this.sent = [];
    this.missed = false;
    this.fate = 0;
  }

  /** Whether somebody else goes on with a packet. */
  protected handDown(_packet: Packet, _key: FlowKey): boolean {
    return false;
  }

  /** What became of the last packet. */
  get outcome(): string {
    if (this.missed) return `a miss of ${this.#missedKey}`;
    return [`ended ${this.fate}`, ...this.sent].join('\n    ');
  }
}

/**
 * One table, and many frames.
 * @param ifindexes of the ports, from port 1 on
 * @throws Divergence
 */
export function tableRound(
  make: MakeCarrier,
  hook: OffloadHook,
  ifindexes: readonly number[],
  seed: number,
  tally: TableTally,
  frames = 2000,
): void {
  const random = new RandomSource(seed);
  const engine = new EngineSide(ifindexes, seed);
  // What is punted comes to an engine as well, over the table that is offloaded.
  const behind = new EngineSide(ifindexes, seed);
  const { table } = behind;
  const { flows, kinds } = randomTable(random, ifindexes.length, 20 + random.below(120));
  for (const flow of flows) {
    for (const each of [engine.table, table]) each.put({ ...flow, ufid: null, mode: PutMode.CREATE });
  }
  tally.flows += flows.length;
  const drops = new Map<number, number>();
  const carrier = make(table, hook, engine.datapath.hashSecret, ifindexes);
  try {
    for (let i = 0; i < frames; i += 1) {
      const kind = random.pick(kinds);
      let frame = randomFrame(random, kind);
      if (random.once(6)) frame = hostileFrame(random, frame, kind);
      const port = 1 + random.below(ifindexes.length);
      const run = carrier.run(Uint8Array.from(frame), port);
      tally.cases += 1;
      engine.run(frame, port);
      if (run.verdict === 'punted' && run.sent.length === 0) {
        behind.run(frame, port);
        tally[hasFlow(engine.table, frame, port) ? 'punted' : 'missed'] += 1;
        continue;
      }
      if (run.resumed !== undefined) {
        behind.resume(run.resumed.frame, port, run.resumed.record);
        tally.resumed += 1;
        if (run.sent.length > 0 || behind.outcome !== engine.outcome) {
          throw new Divergence(
            `MILLRACE_SEED=${seed} (${hook}): port ${port}, frame ${hex(Uint8Array.from(frame))}\n` +
              `handed up as ${hex(run.resumed.frame)} with ${hex(run.resumed.record)}, ${run.sent.length} sent before\n` +
              `engine ${engine.outcome}\nand behind the program ${behind.outcome}\n${listing(engine.table)}`,
          );
        }
        continue;
      }
      const expected = engine.missed
        ? 'a miss'
        : [engine.sent.length > 0 ? 'sent' : 'dropped', ...engine.sent].join('\n    ');
      const found = [run.verdict, ...run.sent.map((each) => `${each.ifindex} ${hex(each.frame)}`)].join('\n    ');
      if (found !== expected) {
        throw new Divergence(
          `MILLRACE_SEED=${seed} (${hook}): port ${port}, frame ${hex(Uint8Array.from(frame))}\n` +
            `engine  ${expected}\nprogram ${found}\n${listing(engine.table)}`,
        );
      }
      tally.carried += 1;
      if (engine.fate !== 0) drops.set(engine.fate, (drops.get(engine.fate) ?? 0) + 1);
      expectOutcome(engine, frame, port, `MILLRACE_SEED=${seed} (${hook})`);
      if (carrier.strict) expectSound(engine.table, frame, port, `MILLRACE_SEED=${seed} (${hook})`);
    }
    carrier.sync();
    compareCounters(engine.table, table, `MILLRACE_SEED=${seed} (${hook})`);
    compareDrops(drops, carrier, `MILLRACE_SEED=${seed} (${hook})`);
  } finally {
    carrier.close();
  }
}

/** What is carried is counted by what the flow's list says of all packets: it must be what the engine did with this one. */
function expectOutcome(engine: EngineSide, frame: readonly number[], port: number, where: string): void {
  const slot = engine.table.match(keyOf(frame, port).words);
  if (slot === -1) return;
  const actions = engine.table.actionsOf(slot);
  const outcome = outcomeOf(actions, 0, actions.length);
  if (outcome?.isSentOn === true) return;
  const counted = outcome === null ? 'nothing for sure' : `${outcome.outputs.length} outputs, drop ${outcome.drop}`;
  const done = `${engine.sent.length} outputs, drop ${engine.fate}`;
  if (counted !== done) {
    throw new Divergence(
      `${where}: actions ${formatActions(actions)} are counted as ${counted}, the engine did ${done}`,
    );
  }
}

/** Each packet that was carried and that the engine dropped was counted under the same reason. */
function compareDrops(engine: ReadonlyMap<number, number>, carrier: Carrier, where: string): void {
  const text = (drops: ReadonlyMap<number, number>) =>
    [...drops]
      .sort(([a], [b]) => a - b)
      .map(([reason, packets]) => `${dropName(reason)} ${packets}`)
      .join(', ');
  const program = carrier.drops?.();
  if (program === undefined || text(program) === text(engine)) return;
  throw new Divergence(`${where}: engine dropped ${text(engine)}; program ${text(program)}`);
}

/** What a flow carries that looks at IP must be well-formed, to the end of what a parser of all headers knows. */
function expectSound(table: FlowTable, frame: readonly number[], port: number, where: string): void {
  const slot = table.match(keyOf(frame, port).words);
  if (slot === -1 || table.maskOf(slot).words[Word.IP] === 0) return;
  const malformed = headers.parseBytes(Uint8Array.from(frame), 0, frame.length);
  if (malformed === Malformed.NOTHING) return;
  throw new Divergence(
    `${where}: port ${port}, frame ${hex(Uint8Array.from(frame))} was carried, though it is ${malformedName(malformed)}`,
  );
}

function hasFlow(table: FlowTable, frame: readonly number[], port: number): boolean {
  return table.match(keyOf(frame, port).words) !== -1;
}

/** Both tables were filled in the same order, so that their slots are the same. TCP flags are gathered where some mask looks at IP. */
export function compareCounters(engine: FlowTable, offloaded: FlowTable, where: string): void {
  const hasFlags = engine.masks.some(({ words }) => words[Word.IP] !== 0);
  for (let slot = engine.next(0); slot !== -1; slot = engine.next(slot + 1)) {
    const counters = (table: FlowTable) =>
      `${table.packetsOf(slot)} packets, ${table.bytesOf(slot)} bytes${hasFlags ? `, TCP flags ${table.tcpFlagsOf(slot)}` : ''}`;
    if (counters(engine) !== counters(offloaded)) {
      throw new Divergence(
        `${where}: flow ${slot}, actions ${formatActions(engine.actionsOf(slot))}\n` +
          `engine  ${counters(engine)}\nprogram ${counters(offloaded)}\n${listing(engine)}`,
      );
    }
  }
}

/** The flows, each with the words that it matches. */
function listing(table: FlowTable): string {
  const lines: string[] = [];
  const key = new Uint32Array(KEY_WORDS);
  for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
    const { words } = table.maskOf(slot);
    table.readKey(slot, key);
    const matches: string[] = [];
    words.forEach((mask, i) => {
      if (mask !== 0) matches.push(`${i}=${(key[i] & mask).toString(16)}/${mask.toString(16)}`);
    });
    lines.push(`flow ${slot}: ${matches.join(' ')} actions ${formatActions(table.actionsOf(slot))}`);
  }
  return lines.join('\n');
}
