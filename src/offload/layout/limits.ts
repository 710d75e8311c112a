/** The limits of what is offloaded, in one place; README.md tells them to users. */

/** Of the layout of all maps: programs and tables of another version are not adopted. */
export const LAYOUT_VERSION = 5;

/** Masks that the program of one hook looks up. */
export const MAXIMUM_MASKS = 32;

/** Shapes of action lists that the program of one hook holds code for. */
export const MAXIMUM_SHAPES = 64;

/** Words of the flow key that a mask may look at. */
export const MAXIMUM_KEY_WORDS = 27;

/** Words of the parameters of a flow's actions. */
export const MAXIMUM_PARAMETER_WORDS = 64;

/** Entries, one of them never used: an index word has 20 bits for their number. */
export const MAXIMUM_ENTRIES = 1 << 20;

/** Interfaces: tables of ports are indexed by ifindex. */
export const MAXIMUM_IFINDEX = 65_535;

/** Ports with counters of their own. */
export const MAXIMUM_PORTS = 1024;

/** Passes of one packet after the first. Beyond it is punted, and the engine begins anew with it. */
export const MAXIMUM_RECIRCULATIONS = 8;

/** Instructions of one program, so that jumps reach from end to end. */
export const MAXIMUM_INSTRUCTIONS = 30_000;

/** Places of the index that a look-up tries. */
export const PROBES = 8;

/** Numbers of masks in entries. A number is used again only when no program knows its former mask. */
export const MASK_NUMBERS = 250;

/** Numbers of shapes in entries, with the same rule. */
export const SHAPE_NUMBERS = 4096;
