/**
 * What the kernel does for one port: the claim of its punted packets, and the programs on its interface, in one of these states:
 *
 *      away         nothing takes its packets in: no program is on it, or none could be put there
 *      left         programs of the former process go on, by the tables that they belong to
 *      handing-up   the program that hands everything up
 *      carried      the programs of its table, at tc, or at XDP and tc
 *      stripped     somebody has taken a program off
 *
 *      away -- begin --> left, handing-up        left, handing-up -- a table has programs for it --> carried
 *      carried -- no table decides, or something else looks at its packets --> handing-up
 *      any -- somebody --> stripped -- upkeep --> as before         any -- end --> away
 *
 * A TAP's packets come by its descriptor: it is away where others hand everything up. Neighbours: ports.ts keeps all ports and finds the table that decides
 * about each; xdp-state.ts says whether XDP can be.
 */
import type { Program } from '../../bpf/index.ts';
import type { PuntClaim } from '../../host/index.ts';
import type { InterfaceIndex } from '../../net/index.ts';
import type { Attachment, ForeignProgram, Hook } from '../../offload/index.ts';
import type { KeptPort } from '../contract.ts';
import type { LeftPrograms, ProgramHolder } from '../left/kept.ts';
import type { PuntShare } from '../punts/punt-shares.ts';
import type { KeptTable } from '../tables/table.ts';
import { Condition } from './condition.ts';
import type { Change } from './interface-changes.ts';
import { XdpState } from './xdp-state.ts';

export type ProgramsState = 'away' | 'left' | 'handing-up' | 'carried' | 'stripped';

/** How long a port counts as overloaded after its last packet beyond its share. */
const OVERLOAD_MS = 60_000;

export class PortPrograms {
  readonly port: KeptPort;
  readonly ifindex: InterfaceIndex;
  /** The other end is this host itself: a TAP. What the kernel sends comes to Millrace. */
  readonly isTap: boolean;
  /** What others have set about its interface, as far as XDP depends on it. */
  readonly xdpState = new XdpState();
  /** What keeps its programs from being looked after, when that was last tried. */
  readonly upkeepTrouble = new Condition();
  /** Index of what its interface stands on: a veth's other end; 0 for nothing. */
  linkedIndex = 0;
  claim: PuntClaim | null = null;
  /** At tc: ingress, or egress of a TAP. */
  tc: Attachment | null = null;
  xdp: Attachment | null = null;
  /** Why no program is at tc. */
  attachReason: string | null = null;
  /** Why the port is not offloaded, or not as it was asked for. */
  reason: string | null = null;
  foreign: readonly ForeignProgram[] = [];
  /** Packets that its programs had handed up and that have not come. */
  lostPunts = 0;
  /** What it gets of the punt path; null for a TAP, which has one of its own. */
  share: PuntShare | null = null;
  #source: KeptTable | null = null;
  #isOpen = false;

  /** Puts programs on its interface. */
  readonly holder: ProgramHolder;
  /** What a former process left on its interface; null when that was nothing. */
  left: LeftPrograms | null = null;

  constructor(port: KeptPort, ifindex: InterfaceIndex, isTap: boolean, holder: ProgramHolder) {
    this.holder = holder;
    this.port = port;
    this.ifindex = ifindex;
    this.isTap = isTap;
  }

  /** The table that decides about its packets; null when none does. */
  get source(): KeptTable | null {
    return this.#source;
  }

  /** Nothing else looks at its packets, so that they may go past. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Another table decides about its packets, or something else looks at them. @returns whether anything is other than before */
  decideBy(source: KeptTable | null, isOpen: boolean): boolean {
    const isOther = this.#source !== source || this.#isOpen !== isOpen;
    this.#source = source;
    this.#isOpen = isOpen;
    return isOther;
  }

  /** As it is now: the kernel is asked. */
  get state(): ProgramsState {
    if (this.tc === null) return 'away';
    if (!this.tc.present) return 'stripped';
    const source = this.#isOpen ? this.#source : null;
    if (this.left !== null && source?.isTakenOver === true) return 'left';
    if (this.xdp?.present === false) return 'stripped';
    return (source?.tc ?? null) === null ? 'handing-up' : 'carried';
  }

  /** Whether it is to be at XDP where that can be. */
  get asksForXdp(): boolean {
    return !this.isTap && this.port.wishes.xdp;
  }

  /** Where its packets are to come to programs. */
  get wanted(): 'tc' | 'xdp' {
    return this.asksForXdp && this.xdpState.notReceiving === null ? 'xdp' : 'tc';
  }

  /** Whether XDP sends to it. */
  get xdpOutput(): boolean {
    return this.asksForXdp && this.xdpState.notSending === null;
  }

  /** Whether it is to be at XDP, and the program is still to come. */
  get awaitsXdp(): boolean {
    return this.wanted === 'xdp' && this.xdp === null && this.#isOpen;
  }

  /** Why XDP does not do all that it was asked for; empty when it does, or was not asked. */
  get xdpReasons(): string[] {
    if (!this.asksForXdp) return [];
    const { notReceiving, notSending } = this.xdpState;
    const reasons: string[] = [];
    if (notReceiving !== null) reasons.push(`it is offloaded at tc instead of xdp: ${notReceiving}`);
    // Some drivers send for XDP only while they run a program.
    if (notSending !== null && !this.awaitsXdp) reasons.push(`flows to it go at tc instead of xdp: ${notSending}`);
    return reasons;
  }

  /** Why there is no hook, or not the one that was asked for; null for nothing to say. */
  get why(): string | null {
    const first = this.reason ?? this.attachReason;
    return [...(first === null ? [] : [first]), ...this.xdpReasons].join('; ') || null;
  }

  /** What its programs have dropped lately of what it had to hand up; null when that was nothing. */
  get overload(): string | null {
    if (this.share === null || performance.now() - this.share.refusedAtMs > OVERLOAD_MS) return null;
    return `more packets of new flows than its share: ${this.share.refused} dropped so far`;
  }

  /** Whether it rests on an interface with this index: its own, or what that stands on, in whichever namespace. */
  rests(ifindex: number): boolean {
    return ifindex === this.ifindex || ifindex === this.linkedIndex;
  }

  /** Whether its programs are not what they should be: somebody has taken one off, or nothing takes its packets in. */
  get isInNeed(): boolean {
    const { state } = this;
    return state === 'stripped' || (state === 'away' && !this.isTap);
  }

  /** Where its flows run now. */
  get hook(): 'tc' | 'xdp' | null {
    if (this.#source === null || !this.#isOpen) return null;
    if (this.xdp !== null) return 'xdp';
    return this.tc !== null && this.#source.tc !== null ? 'tc' : null;
  }

  /** What its interface has to be for the programs. @param keeps whether they outlive the process, and its packet socket */
  needs(change: Change, keeps: boolean): boolean {
    if (this.isTap) return false;
    if (change === 'gro') return this.asksForXdp;
    return change === 'up' || (keeps && this.port.wishes.promiscuous);
  }

  /**
   * Put the programs of its table on it, or those that hand everything up.
   * @param base hands everything up
   * @param nowMs of the clock of its XdpState
   */
  putPrograms(base: Program | null, nowMs: number): void {
    // Until there are others.
    if (this.left !== null && this.state === 'left') return;
    const source = this.#isOpen ? this.#source : null;
    const tc = source?.tc?.program ?? (this.isTap ? null : base);
    if (tc === null) {
      if (this.tc !== null) this.holder.detach(this.tc);
      this.tc = null;
    } else if (this.tc === null || !this.tc.replace(tc)) {
      this.attach(this.isTap ? 'tc-egress' : 'tc-ingress', tc);
    }
    const xdp = this.wanted === 'xdp' ? (source?.xdp?.program ?? null) : null;
    if (xdp === null) {
      this.detachXdp();
    } else if (this.xdp === null || !this.xdp.replace(xdp)) {
      const reason = this.attach('xdp', xdp);
      if (reason === null) return;
      this.xdpState.refuse(reason, nowMs);
      this.#source?.setPort(this);
    }
  }

  detachXdp(): void {
    if (this.xdp !== null) this.holder.detach(this.xdp);
    this.xdp = null;
  }

  /** Put a program on its interface. @returns null, or why it is not there */
  attach(hook: Hook, program: Program): string | null {
    const before = hook === 'xdp' ? this.xdp : this.tc;
    // It holds nothing any more: its interface is gone, or somebody has taken it off.
    if (before !== null) this.holder.detach(before);
    const { attachment, foreign, reason } = this.#tryAttach(hook, program);
    if (hook === 'xdp') this.xdp = attachment;
    else this.tc = attachment;
    this.foreign = [...this.foreign.filter((other) => other.hook !== hook), ...foreign];
    if (hook !== 'xdp') this.attachReason = reason;
    return reason;
  }

  #tryAttach(hook: Hook, program: Program) {
    const result = this.holder.attach({ program, netdev: this.ifindex, hook });
    if (result.attachment === null) return result;
    return { attachment: result.attachment, foreign: result.attachment.foreign, reason: null };
  }

  detach(): void {
    this.detachXdp();
    if (this.tc !== null) this.holder.detach(this.tc);
    this.tc = null;
  }
}
