/**
 * What the keeper wants of whoever runs a switch: ports with what is asked of them, a loop, a clock, and somebody to tell. All of it is mandatory.
 * Neighbours: keeper.ts takes it, shown.ts is what the keeper tells.
 */
import type { EventLoop } from '../host/index.ts';
import type { Batch, PortId } from '../net/index.ts';
import type { Marks } from '../offload/index.ts';
import type { CopyTakers } from './copies/copies.ts';

/** What is asked of a port. */
export interface PortWishes {
  /** Why its packets may not come through programs, as the rest of a sentence that begins with it; null when they may. */
  readonly bar: string | null;
  /** At XDP, where that can be; otherwise at tc. */
  readonly xdp: boolean;
  /** A network card is to take frames for every address in. */
  readonly promiscuous: boolean;
}

/** A port of the switch. */
export interface KeptPort {
  /** The switch's number of it. */
  readonly id: PortId;
  readonly name: string;
  readonly wishes: PortWishes;
  /** MTU of its NIC; 0 for none. */
  readonly nicMtuBytes: number;
  /** Its NIC is known to have no link. */
  readonly isLinkDown: boolean;
  /** Its interface has come while the port waited for it: it is set up for the port, and whoever has made it is taken to want that. */
  readonly isNewcomer: boolean;
  /** Set by the keeper: told how many packets of its own descriptor the switch is done with. */
  onWorkedOff: ((packets: number) => void) | null;
  /** Packets that have come up go into the switch; it is done with them when this returns. */
  receive(batch: Batch): void;
  /** Packets were lost before the switch saw them. */
  countLost(packets: number): void;
  /** Packets were dropped before a flow was found for them, as the port has more of them than its share. They are lost, too. */
  refused(packets: number): void;
}

/** Who runs the switch. */
export interface KeeperHost {
  readonly loop: EventLoop;
  /** Runs of programs: a mark is past when all that had begun before it have ended. */
  readonly programs: Marks;
  /** Path that names this process among others: devices and pins are named after it. */
  readonly identity: string;
  readonly takers: CopyTakers;
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  /** @param port that it is about */
  warn(message: string, port?: string): void;
  /** Something about a port is as it should be again. */
  say(message: string, port: string): void;
  log(message: string, fields: Record<string, unknown>): void;
  /** A port by the switch's number. */
  portOf(id: PortId): KeptPort | undefined;
  /** Whether an extension runs, which may offer its tables later. */
  extensionRuns(name: string): boolean;
}

/** What was asked for cannot be. */
export class KeeperError extends Error {
  override readonly name = 'KeeperError';
  /** `failed`: offload is required, and impossible; `refused`: there is no such thing. */
  readonly kind: 'failed' | 'refused';
  /** What to do about it; null for nothing. */
  readonly hint: string | null;

  constructor(kind: 'failed' | 'refused', message: string, hint: string | null = null) {
    super(message);
    this.kind = kind;
    this.hint = hint;
  }
}

/** Why something was thrown, as one sentence. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
