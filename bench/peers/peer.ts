/** What the bench measures: something that forwards between sa and sb of the two-host bench, and what of it is measured. */
import { MAC_BEHIND_B, TwoHosts } from '../two-host.ts';

/** Small packets as a peer is to be offered them. */
export interface Traffic {
  readonly flows: number;
  /** What differs from flow to flow. */
  readonly vary: 'port' | 'address' | 'mac';
  readonly destinationMac: string;
  readonly destinationAddress: string;
}

/** What is measured of a peer. */
export interface Measures {
  /** Numbers of TCP streams. */
  readonly tcpStreams: readonly number[];
  /** Small packets as fast as they go, once for each entry. */
  readonly small: readonly Traffic[];
  /** The machine's time for a packet at a steady rate. */
  readonly steady: boolean;
  readonly latency: boolean;
}

/** One forwarder of the side-by-side table. */
export interface Peer {
  /** Short name, as in `--only`. */
  readonly id: string;
  /** Name in the table. */
  readonly title: string;
  readonly measures: Measures;
  /** Where B counts small packets and lets them go: at its stack's door, or before an skb is made. */
  readonly receiver: 'stack' | 'xdp';
  /**
   * Bring it up between the cables; resolves when it forwards.
   * @throws NotAvailable for what this machine, or this state of Millrace, cannot do
   */
  start(hosts: TwoHosts): Promise<void>;
  /**
   * What is to be known of the run beside its figures. Called before stop.
   * @throws NotAvailable when what was measured was not what the peer is about
   */
  remark?(): string;
  /** Take it down. Called once after start, also when start failed. */
  stop(hosts: TwoHosts): Promise<void>;
  /** Version and settings that matter, for the report. */
  describe(): string;
}

/** A peer or a part that cannot be measured here. It is reported as such, and the rest goes on. */
export class NotAvailable extends Error {}

/** Frames to a bridge: for an address behind B. */
export function bridged(flows: number, vary: Traffic['vary'] = 'port'): Traffic {
  return { flows, vary, destinationMac: MAC_BEHIND_B, destinationAddress: TwoHosts.addressB };
}

/** Everything, for whoever carries super-packets: the measures of the first table. */
export const ALL_MEASURES: Measures = { tcpStreams: [1, 4], small: [bridged(16)], steady: true, latency: true };
