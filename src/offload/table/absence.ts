/** Why a hook has not got a flow: what is to be done about it, for the code, and a short phrase for people. */

/** How long it stays so, while nothing of the flow changes. */
export const Lasts = {
  /** For good. */
  EVER: 0,
  /** Until something else makes room: another flow goes, or a program changes. */
  ROOM: 1,
  /** Until the tables are larger. */
  LARGER_TABLES: 2,
} as const;

export type Lasts = (typeof Lasts)[keyof typeof Lasts];

export interface Absence {
  readonly lasts: Lasts;
  readonly text: string;
}

/** A flow that cannot be at the hook. */
export function never(text: string): Absence {
  return { lasts: Lasts.EVER, text };
}

/** A flow that may be there some other time. */
export function noRoom(text: string): Absence {
  return { lasts: Lasts.ROOM, text };
}

/** A flow that is there as soon as the tables have grown. */
export const WAITS_FOR_TABLES: Absence = { lasts: Lasts.LARGER_TABLES, text: 'waits for larger tables' };
