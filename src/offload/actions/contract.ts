/**
 * What the program generator and the code of action lists agree on. `compileActions` (compile.ts) turns a flow's list into a
 * shape and parameters, or says why not; `emitShape` (emit.ts) writes the code of a shape, once for all flows that share it.
 */
import type { Address, Label, MapReference } from '../../bpf/index.ts';
import type { InterfaceIndex, KeyPort } from '../../net/index.ts';
import type { Shape } from './shape.ts';

/** Where a program hangs: "tc" is sched_cls on TCX, "xdp" is XDP. */
export type OffloadHook = 'tc' | 'xdp';

/** What a port number is, for the kernel. */
export interface OutputTarget {
  readonly ifindex: InterfaceIndex;
  /** Frames for it come in at the interface instead of going out (BPF_F_INGRESS): a port whose other end is the host itself. */
  readonly ingress: boolean;
  /** Whether XDP may send frames to it. */
  readonly xdp: boolean;
  /** Frames for it go nowhere, as its link is down. False when left out. */
  readonly isDown?: boolean;
}

/** What action lists are compiled for. */
export interface CompileContext {
  readonly hook: OffloadHook;
  /** The interface of a port; null when eBPF cannot reach it, and a flow that sends there is refused. */
  port(number: KeyPort): OutputTarget | null;
  /** Why there is no interface, as the rest of a sentence that begins with the port; 'has no interface' when left out. */
  absenceOf?(number: KeyPort): string;
  /** Whether a packet that was changed, is looked up again and not found can go on in the engine from there; false when left out. */
  readonly resumes?: boolean;
  /** Whether programs reach the table of connections; flows that track packets are refused otherwise. False when left out. */
  readonly connections?: boolean;
  /** The secret that the engine's hash action uses; without it flows that hash are refused. */
  readonly hashSecret?: { readonly low: number; readonly high: number };
}

/** What became of an action list. The parameters are as many words as the shape says. */
export type Compiled = { readonly shape: Shape; readonly parameters: Uint32Array } | { readonly reason: string };

/** Where a ct that is to be tracked has its parameters. */
export interface TrackPlaces {
  /** Zone 16, bits of TrackRequest 16. */
  readonly request: Address;
  /** Value and mask that the connection's mark has already, else the packet goes up; null for none. */
  readonly mark: Address | null;
  /** Four words of value, then four of mask, in the same way. */
  readonly label: Address | null;
}

/**
 * What the generator has ready when the code of a shape begins: R6 is the context, R7 the address of the entry's first parameter
 * word, a map value; R8 and R9 are the shape's own. Every path ends with a return, a jump, or one of the functions given here.
 */
export interface EmitContext {
  readonly hook: OffloadHook;
  /** For shapes with `needsLayer3`: a u32 on the stack, where layer 3 begins in the packet as it lies in the buffer. */
  readonly layer3: Address;
  /** A word of the flow key on the stack, in host order; asked for words of `shape.keyWords` alone. */
  key(word: number): Address;
  /** Where packets go that the engine is to have: only while they are unchanged and nothing of them was sent. */
  readonly punt: Label;
  /** Where packets go that can no longer be punted, and are lost: a helper has failed. Counted. */
  readonly failed: Label;
  /** Write the end of a path of a packet that its flow drops, counted under a reason of flow/'s Drop, or under none for 0. */
  drop(reason: number): void;
  /** Code for a copy that could not be sent; what follows goes on. R6 to R9 must stay. */
  lost?(): void;
  /** Write a check whether the interface whose index is at an address takes a packet of this length. R6 to R9 must stay. */
  fits?(ifindex: Address, tooLong: Label): void;
  /** DEVMAP_HASH of interfaces by ifindex, for XDP. */
  readonly devices?: MapReference;
  /**
   * Write the end of a path that looks the packet up again. The id is in R8; the hash of the packet, if it has one now, in R9, else 0.
   * @param changed whether the path has changed the packet
   */
  recirculate?(changed: boolean): void;
  /** Write a check whether the packet, changed and looked up again, could still go up from its port. R6 to R9 must stay. */
  mustResume?(otherwise: Label): void;
  /** Write code that keeps the packet's headers before they are changed, for a packet that may have to go up as it came. XDP alone. R6 to R9 must stay. */
  keepHeaders?(): void;
  /**
   * Write code that tracks the packet, which has not changed since it was looked up, by one ct after the other; it goes to `punt` when the engine is to do it.
   * R6 to R9 must stay, and so must the packet.
   */
  track?(requests: readonly TrackPlaces[]): void;
  /**
   * Write code that translates the packet as tracking has told. R6 to R9 must stay.
   * @param failed where it goes when that cannot be
   * @param keeps whether headers are kept first, of packets that are translated
   */
  translate?(failed: Label, keeps: boolean): void;
  /** Write code that forgets what tracking has told. R6 to R9 must stay. */
  forget?(): void;
  /** While copies are wanted: code that shows the packet as it came in. R6 to R9 must stay, and so must the packet. */
  copyIn?(): void;
  /** While copies are wanted: code that shows the packet as it is about to be sent; the ifindex is at an address. The same must stay. */
  copyOut?(ifindex: Address): void;
  /** For tests: write what is about to be sent. The ifindex is at `ifindex`; R6 to R9 must stay. */
  observe?(ifindex: Address): void;
}
