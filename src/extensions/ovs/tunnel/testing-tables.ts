/** The host's tables in memory: one path for all, whose state tests set, and addresses. */
import {
  type FollowedPath,
  type HostPath,
  type HostTables,
  type LocalAddress,
  type Packet,
  PathQuery,
  PathState,
  type PathTaker,
} from '../../../net/index.ts';

/** A path that tests change. */
export class TestPath implements HostPath {
  state: number = PathState.READY;
  interfaceIndex = 99;
  mtuBytes = 1500;
  source = new Int32Array(4);
  hasEthernet = true;
  sourceMac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  destinationMac = Uint8Array.of(2, 0, 0, 0, 0, 2);
}

export class TestTables implements HostTables {
  readonly path = new TestPath();
  /** What was asked last. */
  readonly asked = new PathQuery();
  readonly waiting: { packet: Packet; taker: PathTaker }[] = [];
  room = 16;
  readonly #addresses: LocalAddress[] = [];
  #listener: (() => void) | null = null;

  readonly addresses = {
    isComplete: true,
    has: (isIpv6: boolean, ...words: number[]) =>
      this.#addresses.some(
        (one) => one.isIpv6 === isIpv6 && one.words.every((word, i) => word === words[i]) && this.#isAt(one, words[4]),
      ),
    list: () => this.#addresses,
    listen: (listener: () => void) => {
      this.#listener = listener;
      return () => {
        this.#listener = null;
      };
    },
  };

  #isAt({ interfaceIndex }: LocalAddress, asked: number): boolean {
    return asked === 0 || asked === interfaceIndex;
  }

  get isHeard(): boolean {
    return this.#listener !== null;
  }

  add(interfaceIndex: number, isIpv6: boolean, ...words: number[]): void {
    const all = Int32Array.from([...words, 0, 0, 0].slice(0, 4));
    this.#addresses.push({ interfaceIndex, isIpv6, words: all, prefixLength: 24, isUsable: true });
    this.#listener?.();
  }

  find(query: PathQuery): HostPath {
    this.asked.copy(query);
    return this.path;
  }

  wait(_path: HostPath, packet: Packet, taker: PathTaker): boolean {
    if (this.waiting.length === this.room) return false;
    this.waiting.push({ packet, taker });
    return true;
  }

  /** The path is known, or never will be: those that wait go on. */
  settle(state: number): void {
    this.path.state = state;
    for (const { packet, taker } of this.waiting.splice(0)) taker.onPath(packet, this.path, state);
  }

  giveBack(taker: PathTaker): void {
    for (const one of this.waiting.filter((each) => each.taker === taker)) {
      this.waiting.splice(this.waiting.indexOf(one), 1);
      taker.onPath(one.packet, this.path, PathState.NO_NEIGHBOUR);
    }
  }

  follow(): FollowedPath | null {
    return null;
  }
}
