/**
 * The first flow of each mask and shape under traffic: it begins in the engine, a program is made for it, and the kernel takes it over, without a
 * packet that overtakes another or is lost.
 */
import { afterEach, describe, expect, test } from 'vitest';
import type { OffloadInfo } from '../src/daemon/client.ts';
import { NetworkNamespace, openPacketSocket, type PacketSocket } from '../src/host/index.ts';
import { Batch } from '../src/net/index.ts';
import { until, World } from './daemon-world.ts';
import { mac, OvsLab } from './ovs-lab.ts';
import { FrameSource } from './support/index.ts';

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const PACKETS = 1500;
const PER_TURN = 3;
const PATIENCE_MS = 30_000;

/** UDP with a number in it. */
function numbered(number: number, head: readonly number[], destination: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(head.length + 50);
  bytes.set(head);
  bytes.set([8, 0, 0x45, 0, 0, 48, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 2, 2, ...destination], head.length);
  bytes.set([0, 7, 0, 9, 0, 28, 0, 0], head.length + 22);
  new DataView(bytes.buffer).setUint32(head.length + 30, number);
  return bytes;
}

/** What a host sends to another. */
class Stream {
  readonly #from: PacketSocket;
  readonly #to: PacketSocket;
  readonly #source = new FrameSource();
  readonly #batch = new Batch();

  constructor(world: World, from: string, to: string) {
    const open = (host: string) => {
      const namespace = NetworkNamespace.byName(world.namespace(host));
      try {
        return namespace.run(() => openPacketSocket({ interfaceName: 'eth0', receiveSlots: 1020 }));
      } finally {
        namespace.close();
      }
    };
    this.#from = open(from);
    this.#to = open(to);
  }

  /** Have the switch know where the receiver is. */
  answer(frame: Uint8Array): void {
    this.#source.send(this.#to, [frame]);
  }

  /** Numbers of what has come, of frames with a head of so many bytes. */
  take(into: number[], headBytes: number): void {
    while (this.#to.receive(this.#batch, 64) > 0) {
      for (let i = 0; i < this.#batch.count; i += 1) {
        const { bytes, offset, length } = this.#batch.packets[i];
        // The tag is in its place.
        const at = offset + headBytes;
        if (length >= headBytes + 50 && bytes[at] === 8 && bytes[at + 1] === 0 && bytes[at + 25] === 9) {
          into.push(new DataView(bytes.buffer, bytes.byteOffset + at + 30).getUint32(0));
        }
      }
      this.#batch.releaseAll();
    }
  }

  /**
   * Send a stream of packets; the second leaves when the first has come.
   * @returns their numbers in the order in which they came
   */
  async run(head: readonly number[], destination: readonly number[]): Promise<number[]> {
    const came: number[] = [];
    const endMs = performance.now() + PATIENCE_MS;
    let next = 0;
    while (came.length < PACKETS && performance.now() < endMs) {
      const count = next === 0 ? 1 : came.length === 0 ? 0 : Math.min(PER_TURN, PACKETS - next);
      this.#source.send(
        this.#from,
        Array.from({ length: count }, (_, i) => numbered(next + i, head, destination)),
      );
      next += count;
      await new Promise((resume) => setTimeout(resume, 1));
      this.take(came, head.length);
    }
    return came;
  }

  close(): void {
    this.#from.close();
    this.#to.close();
  }
}

const inOrder = Array.from({ length: PACKETS }, (_, i) => i);
const MAC_A = [2, 0, 0, 0, 0, 0xa1];
const MAC_B = [2, 0, 0, 0, 0, 0xb1];

/** Wait until ports have their programs. */
const runAt = (world: World, hook: 'tc' | 'xdp', names: readonly string[]) =>
  until(`${names.join(' and ')} are at ${hook}`, () => {
    const { ports } = world.json<OffloadInfo>('offload', 'show');
    return names.every((name) => ports.some(({ port, hook: at }) => port === name && at === hook));
  });

const carried = (world: World) =>
  world.json<OffloadInfo>('offload', 'show').ports.reduce((sum, port) => sum + port.carriedPackets, 0);

describe.each(['tc', 'xdp'] as const)('at %s', (hook) => {
  test('the learning switch hands flows of new kinds to the kernel in order', async () => {
    const world = new World();
    cleanups.push(() => world.end());
    for (const name of ['a', 'b']) {
      world.host(name);
      world.completesChecksums(name);
    }
    world.up(`offload: require\nports: { ${['a', 'b'].map((name) => `${name}: { offload: ${hook} }`).join(', ')} }\n`);
    await runAt(world, hook, ['a', 'b']);
    const stream = new Stream(world, 'a', 'b');
    cleanups.push(() => stream.close());
    const rounds: [string, readonly number[]][] = [
      ['without a tag', []],
      ['with a tag', [0x81, 0, 0, 6]],
    ];
    for (const [what, tag] of rounds) {
      const head = [...MAC_B, ...MAC_A, ...tag];
      stream.answer(numbered(0, [...MAC_A, ...MAC_B, ...tag], [10, 1, 2, 3]));
      const before = carried(world);
      expect(await stream.run(head, [10, 1, 2, 3]), what).toEqual(inOrder);
      expect(carried(world), what).toBeGreaterThan(before + PACKETS / 10);
    }
  });

  test('Open vSwitch hands flows of new masks to the kernel in order', async () => {
    const lab = new OvsLab();
    cleanups.push(() => lab.close());
    for (const name of ['h1', 'h2']) {
      lab.world.host(name);
      lab.world.completesChecksums(name);
    }
    const ports = ['h1', 'h2'].map((name) => `${name}: { offload: ${hook}, ovsName: ${name} }`);
    await lab.start('require', [], `ports: { ${ports.join(', ')} }\n`);
    for (const name of ['h1', 'h2']) lab.vsctl('add-port', 'br0', name);
    await runAt(lab.world, hook, ['h1', 'h2']);
    const stream = new Stream(lab.world, 'h1', 'h2');
    cleanups.push(() => stream.close());
    const head = [...mac(2), ...mac(1)];
    for (const match of [
      'ip,nw_dst=10.0.0.0/8',
      'ip,nw_src=10.0.0.0/9',
      'ip,nw_ttl=64',
      'udp,tp_dst=9',
      'ip,nw_tos=0',
    ]) {
      lab.ofctl('del-flows', 'br0');
      lab.ofctl('add-flow', 'br0', `in_port=h1,${match},actions=output:h2`);
      lab.appctl('revalidator/purge');
      const before = carried(lab.world);
      expect(await stream.run(head, [10, 1, 2, 3]), match).toEqual(inOrder);
      expect(carried(lab.world), match).toBeGreaterThan(before + PACKETS / 10);
    }
  });
});
