/** What people see of offload, as plain data: show.ts makes it, and the control socket hands it on as it is. */
import type { PuntCounters } from '../host/index.ts';
import type { OffloadSetting } from '../offload/index.ts';

/** Where the flows of a port run in the kernel, and why not where they were asked to; `pending` while a program is on its way. */
export interface PortSummary {
  hook: 'tc' | 'xdp' | null;
  reason: string | null;
  pending: boolean;
}

/** What the kernel carries of one port. */
export interface OffloadPortInfo {
  port: string;
  /** Where the program sits; null when the port's packets all go through the engine. */
  hook: 'tc' | 'xdp' | null;
  /** The kernel's number of the program; null without one. */
  program: number | null;
  /** Programs of others on the same interface, which are left in place. */
  foreign: string[];
  /** Packets that the kernel forwarded or dropped by a flow. */
  carriedPackets: number;
  carriedBytes: number;
  /** Of the carried ones: dropped, as their flow says. */
  droppedPackets: number;
  /** Packets handed up to the engine. */
  puntedPackets: number;
  /** Packets that were none of the switch's business. */
  passedPackets: number;
  /**
   * Packets lost, by cause: `punts` handed up that did not come (see {@link OffloadInfo.channel}), `refused` beyond the port's share of the punt path, `failed` when something went wrong after a packet
   * had been changed, or a flow was too fast to be taken over without a gap, `copies` of packets for further ports.
   */
  lost: { punts: number; refused: number; failed: number; copies: number };
  /** Why there is no hook, or not the one that was asked for; null for nothing to say. */
  reason: string | null;
}

/** One flow table that is offloaded. */
export interface OffloadTable {
  /** Whose flows they are: `learning`, or a datapath of Open vSwitch. */
  name: string;
  /** In the order in which they are looked up. */
  masks: { fields: string; flows: number; hits: number }[];
  flows: number;
  /** Those of them that drop their packets. */
  dropFlows: number;
  flowsInKernel: number;
  /** Why the others are not there. */
  reasons: { reason: string; flows: number }[];
  /** Packets that the engine handed down to the kernel in the middle of their way, and those of them that came up again. */
  handedDown: number;
  cameUpAgain: number;
  /** Packets that were decided about one by one, as no flow stands for them, and why; the most frequent first. */
  apart: { reason: string; packets: number }[];
}

export interface OffloadInfo {
  mode: OffloadSetting;
  /** What the kernel lacks; null when flows can run in it. */
  missing: string | null;
  /** Folder of what outlives the daemon, so that flows go on while it is away; null when nothing does. */
  pins: string | null;
  /** The punt path, for all ports but TAPs; null while there is none. */
  channel: PuntCounters | null;
  tables: OffloadTable[];
  ports: OffloadPortInfo[];
}

/** A flow of a table that is offloaded. */
export interface OffloadFlow {
  table: string;
  match: string;
  actions: string;
  /** Wherever they were carried. */
  packets: number;
  bytes: number;
  /** The extensions whose decision it is, from the top of the stack. */
  deciders: string[];
  /** Why it drops its packets, such as `wall:DENIED`; null when it does not, or that is not known. */
  drop: string | null;
  /** Why the kernel does not run it; null when it does. */
  reason: string | null;
}
