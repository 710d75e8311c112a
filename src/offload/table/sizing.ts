/**
 * How large tables are to be: larger when flows ask for room, as far as is allowed, and as in the beginning when few of many flows are left.
 * Neighbours: placement.ts notes what flows ask for, programs.ts has other tables made.
 */
import { MAXIMUM_KEY_WORDS, MAXIMUM_PARAMETER_WORDS } from '../layout/limits.ts';
import { TableSizes } from '../layout/sizes.ts';
import type { Placement } from './placement.ts';

export interface SizingOptions {
  /** Entries to begin with, and those that tables may have at most. */
  readonly initialEntries: number;
  readonly maximumEntries: number;
  /** Whether tables may begin anew: nothing of a former process's flows is left in them. */
  mayBeginAnew(): boolean;
}

/** Other tables. */
export interface Resizing {
  readonly sizes: TableSizes;
  /** Nothing is copied: flows are put anew. */
  readonly beginsAnew: boolean;
}

/** Tables of which less than one part in so many was used at so many looks in turn begin anew, smaller. */
const SPARE_SHARE = 16;
const SPARE_CHECKS = 5;

export class Sizing {
  readonly #placement: Placement;
  readonly #options: SizingOptions;
  /** At how many looks in turn tables were found much too large. */
  #spareChecks = 0;

  constructor(placement: Placement, options: SizingOptions) {
    this.#placement = placement;
    this.#options = options;
  }

  /** Whether flows could have more room than there is. */
  get canGrow(): boolean {
    return this.#placement.tables.maps.sizes.entries < this.#options.maximumEntries;
  }

  /** Whether other tables are wanted. */
  get isWanted(): boolean {
    const { wanted } = this.#placement;
    const { sizes } = this.#placement.tables.maps;
    return (
      (wanted.entries > sizes.entries && this.canGrow) ||
      wanted.keyWords > sizes.keyWords ||
      wanted.parameterWords > sizes.parameterWords ||
      this.#isSpare
    );
  }

  get #isSpare(): boolean {
    return this.#spareChecks >= SPARE_CHECKS && this.#options.mayBeginAnew();
  }

  /** See how much of the tables is used. To be called now and then. */
  look(): void {
    const { entries, maps } = this.#placement.tables;
    const isSpare =
      maps.sizes.entries > this.#options.initialEntries && entries.used * SPARE_SHARE < maps.sizes.entries;
    this.#spareChecks = isSpare ? this.#spareChecks + 1 : 0;
  }

  /** Which tables are to be made now, and are not asked for any more; null when those that there are do. */
  take(): Resizing | null {
    const larger = this.#larger();
    if (larger !== null) return { sizes: larger, beginsAnew: false };
    const smaller = this.#smaller();
    return smaller === null ? null : { sizes: smaller, beginsAnew: true };
  }

  /** They were not made. Flows that ask for more room ask once. */
  giveBack({ sizes, beginsAnew }: Resizing): void {
    if (beginsAnew) return;
    const { wanted } = this.#placement;
    wanted.entries = Math.max(wanted.entries, sizes.entries);
    wanted.keyWords = Math.max(wanted.keyWords, sizes.keyWords);
    wanted.parameterWords = Math.max(wanted.parameterWords, sizes.parameterWords);
  }

  /** The room that flows want and that there may be; null when tables are as large as wanted or as allowed. */
  #larger(): TableSizes | null {
    const { wanted, tables } = this.#placement;
    const { sizes } = tables.maps;
    const keyWords = wanted.keyWords > sizes.keyWords ? MAXIMUM_KEY_WORDS : sizes.keyWords;
    const parameterWords =
      wanted.parameterWords > sizes.parameterWords ? MAXIMUM_PARAMETER_WORDS : sizes.parameterWords;
    const entries =
      wanted.entries > sizes.entries
        ? Math.min(sizes.entries * (sizes.entries < 1 << 16 ? 4 : 2), this.#options.maximumEntries)
        : sizes.entries;
    Object.assign(wanted, { entries: 0, keyWords: 0, parameterWords: 0 });
    if (keyWords === sizes.keyWords && parameterWords === sizes.parameterWords && entries === sizes.entries)
      return null;
    return new TableSizes({ entries, keyWords, parameterWords, cpus: sizes.cpus });
  }

  /** The sizes that tables begin with again, now that few flows are left in large ones; null when they are used, or were until lately. */
  #smaller(): TableSizes | null {
    if (!this.#isSpare) return null;
    this.#spareChecks = 0;
    const { entries, maps } = this.#placement.tables;
    const { keyWords, parameterWords, cpus } = maps.sizes;
    let wanted = this.#options.initialEntries;
    while (wanted < entries.used * 4) wanted *= 2;
    return new TableSizes({ entries: wanted, keyWords, parameterWords, cpus });
  }
}
