/**
 * What the kernel does for one port: the claim of its punted packets, and the programs on its interface. Neighbour: port-offloads.ts
 * keeps all ports and finds the table that decides about each.
 */
import type { Program } from '../../../bpf/index.ts';
import type { PuntClaim } from '../../../host/index.ts';
import type { Attachment, ForeignProgram, Hook } from '../../../offload/index.ts';
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

  /**
   * Put the programs of its table on it, or those that hand everything up.
   * @param base hands everything up
   * @returns why it has to stay at tc, when that is new; else null
   */
  putPrograms(base: Program | null): string | null {
    const source = this.isOpen ? this.source : null;
    // Those of the former process, until there are others.
    if (source?.isTakenOver === true && this.left !== null && this.tc !== null) return null;
    const tc = source?.tc?.program ?? (this.isTap ? null : base);
    if (tc === null) {
      if (this.tc !== null) this.holder.detach(this.tc);
      this.tc = null;
    } else if (this.tc === null || !this.tc.replace(tc)) {
      this.attach(this.isTap ? 'tc-egress' : 'tc-ingress', tc);
    }
    const xdp = this.wanted === 'xdp' ? (source?.xdp?.program ?? null) : null;
    if (xdp === null) {
      if (this.xdp !== null) this.holder.detach(this.xdp);
      this.xdp = null;
    } else if (this.xdp === null || !this.xdp.replace(xdp)) {
      const reason = this.attach('xdp', xdp);
      if (reason === null) return null;
      this.wanted = 'tc';
      this.source?.setPort(this);
      return reason;
    }
    return null;
  }

  /** Put a program on its interface. @returns null, or why it is not there, which is kept */
  attach(hook: Hook, program: Program): string | null {
    const { attachment, foreign, reason } = this.#tryAttach(hook, program);
    if (hook === 'xdp') this.xdp = attachment;
    else if (attachment !== null) this.tc = attachment;
    this.foreign = attachment === null ? foreign : [...this.foreign.filter((other) => other.hook !== hook), ...foreign];
    if (reason === null) return null;
    this.attachReason = reason;
    this.reason = reason;
    return reason;
  }

  #tryAttach(hook: Hook, program: Program) {
    const result = this.holder.attach({ program, netdev: this.ifindex, hook });
    if (result.attachment === null) return result;
    return { attachment: result.attachment, foreign: result.attachment.foreign, reason: null };
  }

  detach(): void {
    if (this.xdp !== null) this.holder.detach(this.xdp);
    if (this.tc !== null) this.holder.detach(this.tc);
    this.xdp = null;
    this.tc = null;
  }
}
