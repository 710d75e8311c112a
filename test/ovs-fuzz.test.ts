/**
 * A stream of mutated messages from a session of Open vSwitch's real programs (ovs-record.ts made it). Whatever they hold: nothing is
 * thrown, what is refused changes nothing, answers are well-formed, no packet memory is lost, and packets are still forwarded.
 * MILLRACE_FUZZ multiplies the 20,000 messages; MILLRACE_FUZZ_SEED begins elsewhere.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Command, Family, VportType } from '../src/extensions/ovs/abi.ts';
import { u16At, u32At } from '../src/extensions/ovs/attributes.ts';
import type { OvsDatapath } from '../src/extensions/ovs/ovs-datapath.ts';
import { type Answer, MemoryWorld, Program } from '../src/extensions/ovs/testing-memory.ts';
import { KEY_WORDS, PutMode, parseActions, parseFlowKey } from '../src/flow/index.ts';
import { Batch } from '../src/net/index.ts';
import { Mutator, Random } from './ovs-fuzz-mutate.ts';

const MESSAGES = 20_000 * Number(process.env.MILLRACE_FUZZ ?? 1);
const SEED = Number(process.env.MILLRACE_FUZZ_SEED ?? 7);
/** After so many messages, the session is played from its beginning to a new server. */
const ROUND = 1000;
const FLOWS_MAXIMUM = 200;

const trace = readFileSync(new URL('../src/extensions/ovs/testing/programs.hex', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .flatMap((line) => messagesOf(Uint8Array.from(Buffer.from(line, 'hex'))));

/** The messages of a datagram, each as a datagram of its own. */
function messagesOf(datagram: Uint8Array): Uint8Array[] {
  const messages: Uint8Array[] = [];
  for (let at = 0; at + 16 <= datagram.length; at += (u32At(datagram, at) + 3) & ~3) {
    messages.push(datagram.slice(at, at + u32At(datagram, at)));
  }
  return messages;
}

const FRAME = Uint8Array.from([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb6, ...new Uint8Array(46)]);

class Session {
  readonly world = new MemoryWorld(100, { 'ovs-system': 1000, dp1: 1001 });
  readonly program = new Program(this.world.server);
  readonly probe: OvsDatapath;

  constructor() {
    for (const message of trace) if (message[16] !== Command.DEL) this.program.request(message);
    this.probe = this.world.server.addDatapath('probe');
    for (const name of ['probe1', 'probe2']) {
      const request = { type: VportType.NETDEV, name, upcallPids: [0], destinationPort: 0 };
      this.probe.addPort(this.probe.freeNumber(), request);
    }
    const { key, mask } = parseFlowKey('in_port(1),eth(),eth_type(0x88b6)');
    const put = { key, mask, actions: parseActions('2'), ufid: null, mode: PutMode.CREATE };
    expect(this.probe.flows.table.put(put)).toBeGreaterThanOrEqual(0);
  }

  /** Whether the datapath that no message names still carries a frame from one port to the other. */
  forwards(): boolean {
    const out = this.world.devices.get('probe2');
    const packet = this.world.pool.allocate();
    if (packet === null || out === undefined) return false;
    packet.bytes.set(FRAME, packet.offset);
    packet.length = FRAME.length;
    const batch = new Batch();
    batch.push(packet);
    out.sent.length = 0;
    this.world.devices.get('probe1')?.receive(batch);
    for (const device of this.world.devices.values()) if (device !== out) device.sent.length = 0;
    return out.sent.length === 1 && Buffer.compare(out.sent[0], FRAME) === 0;
  }

  /** Many messages in one datagram, a frame of any kind from another connection, and a dump that nobody goes on with. */
  disturb(random: Random, mutator: Mutator): void {
    const batch: number[] = [];
    for (let count = 1 + random.below(6); count > 0; count -= 1) {
      for (const byte of mutator.next()) batch.push(byte);
      while (batch.length % 4 !== 0) batch.push(0);
    }
    this.program.request(Uint8Array.from(batch));
    const other = new Program(this.world.server);
    for (let count = random.below(8); count > 0; count -= 1) {
      const frame = Uint8Array.from({ length: random.below(40) }, () => random.below(256));
      frame.fill(0, 1, 4);
      if (frame.length > 0) frame[0] = random.below(11);
      other.connection.onDatagram(frame);
    }
    other.connection.onClose();
  }

  get flows(): number {
    let flows = 0;
    for (const { flows: inside } of this.world.server.datapaths.values()) flows += inside.table.size;
    return flows;
  }

  /** A number for everything that requests can change, counters aside. */
  digest(): number {
    const sum = new Sum();
    for (const datapath of this.world.server.datapaths.values()) {
      sum.text(datapath.name);
      sum.words([datapath.interfaceIndex, datapath.userFeatures, datapath.masksCacheSize, ...datapath.cpuPids]);
      for (const port of datapath.ports.values()) {
        sum.text(port.name);
        sum.words([port.number, port.type, port.destinationPort, ...port.upcallPids]);
      }
      for (const meter of datapath.meters.all()) {
        sum.words([meter.id, meter.isKbps ? 1 : 0, ...meter.bands.flatMap(({ rate, burst }) => [rate, burst])]);
      }
      const { table } = datapath.flows;
      for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
        table.readKey(slot, this.#key);
        sum.words(this.#key);
        sum.words(table.maskOf(slot).words);
        sum.words(table.actionsOf(slot));
        sum.words(table.ufidOf(slot) ?? []);
      }
    }
    return sum.value;
  }

  readonly #key = new Uint32Array(KEY_WORDS);
}

class Sum {
  value = 0;

  words(words: Iterable<number> & { readonly length: number }): void {
    let value = Math.imul(this.value, 31) + words.length;
    for (const word of words) value = (Math.imul(value ^ word, 0x9e37_79b1) ^ (value >>> 15)) | 0;
    this.value = value;
  }

  text(text: string): void {
    for (let i = 0; i < text.length; i += 1) this.value = Math.imul(this.value ^ text.charCodeAt(i), 0x0100_0193);
  }
}

/** What is wrong with the answers to one message, or nothing. */
function flaw(message: Uint8Array, answers: readonly Answer[]): string {
  if (message.length < 16 || u32At(message, 0) > message.length || u32At(message, 0) < 16) {
    return answers.length === 0 ? '' : 'an answer to what is no message';
  }
  const flags = u16At(message, 6);
  const isRequest = (flags & 1) !== 0;
  if (!isRequest) return answers.length === 0 ? '' : 'an answer to what is no request';
  if (answers.some(({ bytes }) => bytes.length < 16)) return 'an answer that is cut off';
  const own = answers.filter(
    ({ sequence, bytes }) => sequence === u32At(message, 8) && u16At(bytes, 4) !== Family.PACKET,
  );
  const last = own.at(-1);
  if ((flags & 4) !== 0 && (last === undefined || (last.type !== 2 && last.type !== 3))) return 'not acknowledged';
  if (own.filter(({ type }) => type === 2 || type === 3).length > 1) return 'acknowledged twice';
  return '';
}

test(`${MESSAGES} mutated messages: nothing is thrown, half done or lost`, { timeout: 3_600_000 }, () => {
  const random = new Random(SEED);
  const mutator = new Mutator(trace, random);
  const outcomes = new Map<string, number>();
  let heapBefore = 0;
  for (let done = 0; done < MESSAGES; ) {
    const session = new Session();
    let before = session.digest();
    for (let i = 0; i < ROUND && done < MESSAGES && session.flows < FLOWS_MAXIMUM; i += 1, done += 1) {
      if (random.below(40) === 0) {
        session.disturb(random, mutator);
        before = session.digest();
      }
      const message = mutator.next();
      const hex = () => `message ${done} of seed ${SEED}: ${Buffer.from(message).toString('hex')}`;
      let answers: Answer[];
      try {
        answers = session.program.request(message);
      } catch (error) {
        throw new Error(hex(), { cause: error });
      }
      const wrong = flaw(message, answers);
      if (wrong !== '') throw new Error(`${wrong}; ${hex()}`);
      const refusal = answers.find(({ errno }) => errno !== 0);
      const after = session.digest();
      if (refusal !== undefined && after !== before)
        throw new Error(`refused with ${refusal.errno} and yet done; ${hex()}`);
      const outcome = refusal === undefined ? 'carried out' : `errno ${refusal.errno}`;
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      before = after;
      if (i % 50 === 49 && session.world.server.datapaths.has(session.probe.interfaceIndex)) {
        if (!session.forwards()) throw new Error(`no longer forwards; ${hex()}`);
        session.program.take();
      }
    }
    const { pool, largePool } = session.world;
    expect([pool.available, largePool.available]).toEqual([pool.capacity, largePool.capacity]);
    session.world.server.close();
    if (heapBefore === 0) heapBefore = process.memoryUsage().heapUsed;
  }
  expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(300 << 20);
  // Mutations are of use only if many are nearly right.
  expect(outcomes.get('carried out') ?? 0).toBeGreaterThan(MESSAGES / 50);
  expect(outcomes.get('errno 22') ?? 0).toBeGreaterThan(MESSAGES / 50);
  if (process.env.MILLRACE_FUZZ !== undefined)
    process.stdout.write(`${JSON.stringify(Object.fromEntries(outcomes))}\n`);
});
