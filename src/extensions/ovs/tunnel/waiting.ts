/** A packet for a tunnel that waits until its way is known: what is to be done with it then. The host's tables keep the packet, and say how many may wait. */
import type { HostPath, Packet, PathTaker } from '../../../net/index.ts';
import type { TunnelPlace } from './place.ts';

export class WaitingPacket implements PathTaker {
  readonly place: TunnelPlace;
  /** The tunnel's key. */
  readonly words: Uint32Array;
  readonly l3Type: number;
  readonly #goOn: (packet: Packet, waiting: WaitingPacket, path: HostPath, state: number) => void;

  constructor(
    place: TunnelPlace,
    words: Uint32Array,
    l3Type: number,
    goOn: (packet: Packet, waiting: WaitingPacket, path: HostPath, state: number) => void,
  ) {
    this.place = place;
    this.words = words;
    this.l3Type = l3Type;
    this.#goOn = goOn;
  }

  onPath(packet: Packet, path: HostPath, state: number): void {
    this.#goOn(packet, this, path, state);
  }
}
