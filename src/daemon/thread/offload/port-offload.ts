/**
 * What the kernel does for one port: the claim of its punted packets, and the programs on its interface. offload.ts decides about
 * programs and keeps all ports.
 */
import type { PuntClaim } from '../../../host/index.ts';
import type { Attachment, ForeignProgram } from '../../../offload/index.ts';
import type { DatapathPort } from '../port.ts';
import type { Change } from './interface-changes.ts';
import type { LeftPrograms, ProgramHolder } from './kept.ts';
import type { OffloadedSource } from './source.ts';

export class PortOffload {
  readonly port: DatapathPort;
  readonly ifindex: number;
  /** The other end is this host itself: a TAP. What the kernel sends comes to Millrace. */
  readonly isTap: boolean;
  /** The table that decides about its packets; null when none does. */
  source: OffloadedSource | null = null;
  /** Nothing else looks at its packets, so that they may go past. */
  isOpen = false;
  /** Where its packets come to programs; null for a port that can only be sent to. */
  wanted: 'tc' | 'xdp' | null = 'tc';
  /** MTU of its NIC in the switch; 0 for none. */
  mtuBytes = 0;
  /** Whether XDP can send to it. */
  xdpOutput = false;
  claim: PuntClaim | null = null;
  /** At tc: ingress, or egress of a TAP. */
  tc: Attachment | null = null;
  xdp: Attachment | null = null;
  /** Why programs are not where they were asked for. */
  attachReason: string | null = null;
  /** Why the port is not offloaded, or not as it was asked for. */
  reason: string | null = null;
  foreign: readonly ForeignProgram[] = [];
  /** Packets that its programs had handed up and that have not come. */
  lostPunts = 0;

  /** Puts programs on its interface. */
  readonly holder: ProgramHolder;
  /** What a former process left on its interface; null when that was nothing. */
  left: LeftPrograms | null = null;

  constructor(port: DatapathPort, ifindex: number, isTap: boolean, holder: ProgramHolder) {
    this.holder = holder;
    this.port = port;
    this.ifindex = ifindex;
    this.isTap = isTap;
  }

  /** Where its flows run now. */
  get hook(): 'tc' | 'xdp' | null {
    if (this.source === null || !this.isOpen) return null;
    if (this.xdp !== null) return 'xdp';
    return this.tc !== null && this.source.tc !== null ? 'tc' : null;
  }

  /** What its interface has to be for the programs. @param keeps whether they outlive the process, and its packet socket */
  needs(change: Change, keeps: boolean): boolean {
    const { config } = this.port;
    if (config.kind !== 'netdev') return false;
    if (change === 'gro') return config.offload === 'xdp';
    return change === 'up' || (keeps && config.promiscuous !== false);
  }

  detach(): void {
    if (this.xdp !== null) this.holder.detach(this.xdp);
    if (this.tc !== null) this.holder.detach(this.tc);
    this.xdp = null;
    this.tc = null;
  }
}
