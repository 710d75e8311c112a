/**
 * What each port gets of the punt path, whose ring all ports share: as many packets under way as leave room for the others, and no more than take
 * a few milliseconds of the thread. Programs drop what is beyond a port's share (offload/punt/share.ts), so a port that floods cannot fill the ring. Neighbours:
 * ports/ tells what was worked off, base-program.ts and the tables have the counts.
 */
import { TimeShare } from '../../host/index.ts';

/** How much longer than the part of the ring that stays free a port's part may be. */
const SHARE_TO_FREE = 3;
/** How often shares are set, at most. */
const BALANCE_MS = 2;
/** Time of the thread that the packets of one port which are under way may take, and packets that may be under way however long they take. */
const UNDER_WAY_MS = 4;
const LEAST_SHARE = 16;
/** For so long a port has the least share after packets of it came up in vain. */
const HOLD_BACK_MS = 10;
/** A port wants much of the ring when it has more than one part in so many of it, or was refused some, and for so long after that. */
const GREEDY_PART = 4;
const GREEDY_MS = 100;

/** The counts of a port. */
export interface PuntCounts {
  /** Packets that its programs have handed up and that are not worked off. */
  readonly underWay: number;
  /** Packets that its programs have dropped beyond its share, since this was last asked. */
  takeRefused(): number;
  setShare(packets: number): void;
}

/** A port among those that share. */
export class PuntShare {
  /** Packets that may be under way. */
  packets: number;
  /** Packets that were dropped beyond it, and when the last of them were seen, in milliseconds of performance.now. */
  refused = 0;
  refusedAtMs = Number.NEGATIVE_INFINITY;
  readonly time: TimeShare;
  readonly counts: PuntCounts;
  /** Until when it has no more than the least share. */
  heldBackUntilMs = 0;
  /** Until when it counts among those that want much. */
  greedyUntilMs = 0;
  /** Something was worked off since shares were last set. */
  isActive = false;

  constructor(counts: PuntCounts, slots: number) {
    this.counts = counts;
    this.packets = shareOf(slots, 1);
    this.time = new TimeShare(UNDER_WAY_MS, LEAST_SHARE, slots);
  }

  /** Packets of the port come up that nobody has room for: it is better to drop them before that. @param nowMs of performance.now */
  holdBack(nowMs: number): void {
    this.heldBackUntilMs = nowMs + HOLD_BACK_MS;
  }
}

export class PuntShares {
  readonly #slots: number;
  readonly #refused: (share: PuntShare, packets: number) => void;
  readonly #active: PuntShare[] = [];
  readonly #greedy = new Set<PuntShare>();
  #balanceAtMs = 0;

  /**
   * @param slots of the ring
   * @param refused told how many packets of a port were dropped
   */
  constructor(slots: number, refused: (share: PuntShare, packets: number) => void) {
    this.#slots = slots;
    this.#refused = refused;
  }

  /** A port comes. */
  open(counts: PuntCounts): PuntShare {
    const share = new PuntShare(counts, this.#slots);
    counts.setShare(share.packets);
    return share;
  }

  /** A port goes. */
  close(share: PuntShare): void {
    this.#greedy.delete(share);
    const at = this.#active.indexOf(share);
    if (at !== -1) this.#active.splice(at, 1);
  }

  /** Packets of a port have been worked off. @param nowMs of performance.now */
  workedOff(share: PuntShare, packets: number, tookMs: number, nowMs: number): void {
    share.time.spent(packets, tookMs);
    if (!share.isActive) {
      share.isActive = true;
      this.#active.push(share);
    }
    if (nowMs < this.#balanceAtMs) return;
    this.#balanceAtMs = nowMs + BALANCE_MS;
    this.#balance(nowMs);
  }

  #balance(nowMs: number): void {
    for (const share of this.#active) {
      const refused = share.counts.takeRefused();
      if (refused > 0 || share.counts.underWay * GREEDY_PART > this.#slots) {
        share.greedyUntilMs = nowMs + GREEDY_MS;
        this.#greedy.add(share);
      }
      if (refused === 0) continue;
      share.refused += refused;
      share.refusedAtMs = nowMs;
      this.#refused(share, refused);
    }
    for (const share of this.#greedy) if (share.greedyUntilMs < nowMs) this.#greedy.delete(share);
    // One that is not there yet may come at any moment.
    const most = shareOf(this.#slots, Math.max(1, this.#greedy.size));
    for (const share of this.#active) {
      share.isActive = false;
      const packets = share.heldBackUntilMs > nowMs ? LEAST_SHARE : Math.min(most, share.time.packets);
      if (packets === share.packets) continue;
      share.packets = packets;
      share.counts.setShare(packets);
    }
    this.#active.length = 0;
  }
}

/** What each of some ports may have of a ring, such that all of them together leave a part of it free. */
function shareOf(slots: number, ports: number): number {
  return Math.max(LEAST_SHARE, Math.floor((slots * SHARE_TO_FREE) / (1 + SHARE_TO_FREE * ports)));
}
