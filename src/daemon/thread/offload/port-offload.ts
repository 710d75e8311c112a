/**
 * What the kernel does for one port: the claim of its punted packets, and the programs on its interface. offload.ts decides about
 * programs and keeps all ports.
 */
import type { PuntClaim } from '../../../host/index.ts';
import type { Attachment, ForeignProgram } from '../../../offload/index.ts';
import type { DatapathPort } from '../port.ts';

/** How the packets of a port come to Millrace. */
export type PortWay =
  /** Through its own ring or descriptor: no program is in the way. */
  | 'direct'
  /** A program takes them first and punts what it does not carry. */
  | 'program';

export class PortOffload {
  readonly port: DatapathPort;
  readonly ifindex: number;
  /** The other end is this host itself: a TAP. What the kernel sends comes to Millrace. */
  readonly isTap: boolean;
  claim: PuntClaim | null = null;
  /** At tc: ingress, or egress of a TAP. */
  tc: Attachment | null = null;
  xdp: Attachment | null = null;
  /** Why there is no program, or not the one that was asked for. */
  reason: string | null = null;
  foreign: readonly ForeignProgram[] = [];

  constructor(port: DatapathPort, ifindex: number, isTap: boolean) {
    this.port = port;
    this.ifindex = ifindex;
    this.isTap = isTap;
  }

  get hook(): 'tc' | 'xdp' | null {
    return this.xdp !== null ? 'xdp' : this.tc !== null ? 'tc' : null;
  }
}
