/**
 * The order of packets under every interleaving of programs, engine and daemon: a model of CPUs that run programs one access to shared memory at a
 * time, of the punt path, which may lose packets, and of the engine. The daemon's side is the real one, on tables in ordinary memory.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type InterfaceIndex, toInterfaceIndex, toKeyPort } from '../../net/index.ts';
import { EntryTable } from '../layout/entry-table.ts';
import { PortTable } from '../layout/port-table.ts';
import { EntryWord, Order, PORT_WORDS, PortFlag, PortWord, TableSizes, WAITED } from '../layout/sizes.ts';
import { FlowOrder } from './order.ts';

const PORTS = [3, 4].map(toInterfaceIndex);
const CPUS = 3;
const ENTRY = 1;
/** Packets that the punt path has room for. */
const ROOM = 4;

interface Packet {
  readonly cpu: number;
  readonly port: InterfaceIndex;
  readonly number: number;
}

/** The machine, with one flow that each CPU sends packets of by one of the ports. */
class Machine {
  readonly sizes = new TableSizes({ entries: 4, keyWords: 4, parameterWords: 2, cpus: 1 });
  readonly ports = new Int32Array((Math.max(...PORTS) + 1) * PORT_WORDS);
  readonly entries: EntryTable;
  readonly table: PortTable;
  readonly order: FlowOrder;
  readonly mask = { running: false };
  readonly shape = { running: true };
  /** Programs that know the entry run at these ports. */
  readonly knows = new Set<number>();
  isPut = false;
  nowMs = 0;
  readonly ring: Packet[] = [];
  /** By mark, which CPUs still run what they ran then. */
  readonly graces: boolean[][] = [];
  /** Marks are what had ever gone into the ring. */
  into = 0;
  outOf = 0;
  /** The rest of the run of a program, by CPU. */
  readonly runs: (Generator<void> | null)[] = Array.from({ length: CPUS }, () => null);
  readonly sent = new Array<number>(CPUS).fill(0);
  readonly delivered: number[][] = Array.from({ length: CPUS }, () => []);
  carried = 0;
  readonly isMany: boolean;
  readonly isXdp: boolean;
  /** At XDP, what is passed on lies here until tc meets it. */
  readonly behind: Packet[][] = Array.from({ length: CPUS }, () => []);

  constructor(isMany: boolean, isXdp: boolean) {
    this.isMany = isMany;
    this.isXdp = isXdp;
    const { sizes } = this;
    this.entries = new EntryTable({
      entries: new Uint32Array(sizes.entriesBytes / 4),
      far: new Uint32Array(64),
      sizes,
    });
    const cpus = { u8: new Uint8Array(1 << 17), count: () => 0 };
    this.table = new PortTable({ ports: this.ports, cpus, sizes } as unknown as ConstructorParameters<
      typeof PortTable
    >[0]);
    for (const ifindex of PORTS)
      this.table.set({ ifindex, number: toKeyPort(ifindex), puntIfindex: toInterfaceIndex(9), flags: 0, mtuBytes: 0 });
    this.order = new FlowOrder(this.entries, this.table, {
      nowMs: () => this.nowMs,
      programs: {
        mark: () => {
          const running = this.runs.map((run) => run !== null);
          this.graces.push(running);
          return this.graces.length - 1;
        },
        // Of those that had begun none runs any more.
        isPast: (mark) => this.graces[mark].every((isRunning) => !isRunning),
      },
      puntPath: { mark: () => this.into, isPast: (mark) => this.outOf >= mark },
    });
  }

  /** The port that a CPU's packets come in by: one for all where the flow is of one port. */
  portOf(cpu: number): InterfaceIndex {
    return this.isMany ? PORTS[cpu % PORTS.length] : PORTS[0];
  }

  add(port: number, word: number, count: number): void {
    Atomics.add(this.ports, port * PORT_WORDS + word, count);
  }

  load(port: number, word: number): number {
    return this.ports[port * PORT_WORDS + word];
  }

  /** One access of a CPU, or the begin of a run. */
  step(cpu: number): void {
    this.runs[cpu] ??= this.begin(cpu);
    const run = this.runs[cpu];
    if (run?.next().done !== true) return;
    this.runs[cpu] = null;
    for (const grace of this.graces) grace[cpu] = false;
  }

  begin(cpu: number): Generator<void> {
    // What XDP has passed on comes to tc before the next packet comes to XDP, or after it.
    const passed = this.behind[cpu].shift();
    if (passed !== undefined) return this.atTc(passed);
    const packet = { cpu, port: this.portOf(cpu), number: this.sent[cpu] };
    this.sent[cpu] += 1;
    return this.isXdp ? this.program(packet, PortWord.PASSED) : this.atTc(packet);
  }

  /** The program as program/wait.ts and program/end.ts write it. */
  *program(packet: Packet, announcements: number): Generator<void> {
    const { port } = packet;
    const word = this.entries.at(ENTRY) + EntryWord.ORDER;
    const { words } = this.entries;
    const isHit = this.isPut && this.knows.has(port);
    const isHeld = (this.load(port, PortWord.FLAGS) & PortFlag.HELD) !== 0;
    yield;
    if (isHit && !isHeld) {
      let seen = words[word];
      yield;
      let isCarried = seen === 0;
      if (!isCarried && (seen & Order.HELD) === 0) {
        isCarried = true;
        const pairs = this.isXdp ? [[PortWord.ARRIVED, PortWord.PASSED]] : [];
        for (const [first, second] of [...pairs, [PortWord.DRAINED, PortWord.PUNTED]]) {
          const before = this.load(port, first);
          yield;
          if (before !== this.load(port, second)) isCarried = false;
          yield;
          if (!isCarried) break;
        }
      }
      if (!isCarried) {
        if ((seen & Order.STOPPED) !== 0) return;
        this.add(port, announcements, 1);
        yield;
        for (;;) {
          const found = Atomics.compareExchange(words, word, seen, (seen + WAITED) >>> 0);
          yield;
          if (found === seen) break;
          if (found === 0) {
            this.add(port, announcements, -1);
            isCarried = true;
            break;
          }
          seen = found;
        }
      }
      if (isCarried) {
        this.carried += 1;
        this.deliver(packet);
        return;
      }
    } else {
      this.add(port, announcements, 1);
      yield;
    }
    if (announcements === PortWord.PASSED) this.behind[packet.cpu].push(packet);
    else yield* this.up(packet);
  }

  *atTc(packet: Packet): Generator<void> {
    if (!this.isXdp) {
      yield* this.program(packet, PortWord.PUNTED);
      return;
    }
    this.add(packet.port, PortWord.PUNTED, 1);
    yield;
    this.add(packet.port, PortWord.ARRIVED, 1);
    yield;
    yield* this.up(packet);
  }

  *up(packet: Packet): Generator<void> {
    yield;
    if (this.ring.length >= ROOM) return;
    this.ring.push(packet);
    this.into += 1;
  }

  /** The engine takes a packet; its work on it is done then. */
  engine(): void {
    const packet = this.ring.shift();
    if (packet === undefined) return;
    this.outOf += 1;
    this.deliver(packet);
    this.table.drained(packet.port, 1);
  }

  deliver({ cpu, number }: Packet): void {
    this.delivered[cpu].push(number);
  }

  put(): void {
    if (this.isPut) return;
    this.entries.write(ENTRY, 0, 0, Order.WAITS, [], []);
    this.isPut = true;
    const ifindex = this.isMany ? 0 : PORTS[0];
    const { mask, shape } = this;
    this.order.add(ENTRY, this.isXdp ? 'xdp' : 'tc', ifindex, mask, shape);
  }

  /** A program that knows the mask comes to one port after the other: it has come before the entry, or comes for it. */
  install(): void {
    const port = PORTS.find((each) => !this.knows.has(each));
    if (port === undefined) return;
    this.knows.add(port);
    if (this.knows.size < PORTS.length) return;
    this.mask.running = true;
    this.order.programsChanged();
  }
}

type Move = { readonly do: 'step'; readonly cpu: number } | { readonly do: 'engine' | 'put' | 'install' | 'poll' };
const move: fc.Arbitrary<Move> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('step' as const), cpu: fc.nat(CPUS - 1) }) },
  { weight: 5, arbitrary: fc.constant({ do: 'engine' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'put' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'install' as const }) },
  { weight: 2, arbitrary: fc.constant({ do: 'poll' as const }) },
);

function make(machine: Machine, moves: readonly Move[]): void {
  for (const each of moves) {
    if (each.do === 'step') machine.step(each.cpu);
    else if (each.do === 'engine') machine.engine();
    else if (each.do === 'put') machine.put();
    else if (each.do === 'install') machine.install();
    else {
      machine.nowMs += 7;
      machine.order.poll();
    }
  }
}

const isAscending = (numbers: readonly number[]) => numbers.every((number, i) => i === 0 || number > numbers[i - 1]);

const machines = fc.record({ isMany: fc.boolean(), isXdp: fc.boolean() });

test('whatever the machine does, no packet of a flow overtakes another, and in the end every packet is carried', () => {
  fc.assert(
    fc.property(machines, fc.array(move, { maxLength: 400, size: 'max' }), ({ isMany, isXdp }, moves) => {
      const machine = new Machine(isMany, isXdp);
      make(machine, moves);
      for (const numbers of machine.delivered) expect(isAscending(numbers), numbers.join(' ')).toBe(true);
      // Once nothing comes for a moment, the flow is carried without a look, whatever was lost.
      machine.put();
      while (machine.knows.size < PORTS.length) machine.install();
      for (let cpu = 0; cpu < CPUS; cpu += 1) {
        while (machine.runs[cpu] !== null || machine.behind[cpu].length > 0) machine.step(cpu);
      }
      for (let turn = 0; turn < 20 && machine.order.size > 0; turn += 1) {
        while (machine.ring.length > 0) machine.engine();
        machine.nowMs += 7;
        machine.order.poll();
      }
      expect(machine.order.size).toBe(0);
      expect(machine.entries.orderOf(ENTRY)).toBe(0);
      for (const numbers of machine.delivered) expect(isAscending(numbers), numbers.join(' ')).toBe(true);
    }),
    { numRuns: 8000 },
  );
});

test('a flow that the engine never catches up with is stopped for a moment, and then carried', () => {
  const machine = new Machine(false, false);
  machine.put();
  while (machine.knows.size < PORTS.length) machine.install();
  for (let turn = 0; turn < 100 && machine.order.size > 0; turn += 1) {
    // Before the engine is through, the next is on its way.
    for (let count = 0; count < 8000; count += 1) machine.step(0);
    machine.engine();
    machine.nowMs += 7;
    machine.order.poll();
  }
  expect(machine.order.size).toBe(0);
  expect(isAscending(machine.delivered[0])).toBe(true);
  const before = machine.carried;
  for (let count = 0; count < 40; count += 1) machine.step(0);
  expect(machine.carried).toBeGreaterThan(before);
});

test('everything goes up from a port to which programs have only just come, until what went up before is worked off', () => {
  const machine = new Machine(false, false);
  machine.put();
  while (machine.knows.size < PORTS.length) machine.install();
  const [port] = PORTS;
  machine.order.holdPort(port);
  expect([...machine.order.heldPorts()]).toEqual([port]);
  // It came up by a program that does not count.
  machine.ring.push({ cpu: 0, port, number: -1 });
  machine.into += 1;
  for (let turn = 0; turn < 3; turn += 1) {
    for (let count = 0; count < 10; count += 1) machine.step(0);
    machine.nowMs += 7;
    machine.order.poll();
  }
  expect([machine.carried, machine.table.isHeld(port)]).toEqual([0, true]);
  machine.order.portBegins(port);
  for (let turn = 0; turn < 4 && machine.table.isHeld(port); turn += 1) {
    while (machine.runs[0] !== null) machine.step(0);
    while (machine.ring.length > 0) machine.engine();
    machine.nowMs += 7;
    machine.order.poll();
  }
  expect(machine.table.isHeld(port)).toBe(false);
  expect(isAscending(machine.delivered[0])).toBe(true);
});
