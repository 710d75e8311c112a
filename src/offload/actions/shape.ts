/**
 * Shapes: action lists without their numbers. All flows with the same kinds of actions share one shape, and with it one piece of
 * code; the numbers are parameters, in the order of the steps. compile.ts makes shapes, emit.ts writes their code, steps.ts has all steps.
 */
import type { LengthStep } from './check-length.ts';
import type { OffloadHook } from './contract.ts';
import type { ForgetStep, TrackStep, TranslateStep } from './ct.ts';
import type { DecTtlStep } from './dec-ttl.ts';
import type { DropStep } from './drop.ts';
import type { EthernetStep } from './ethernet.ts';
import type { HashStep } from './hash.ts';
import type { Ipv4Step, Ipv6Step } from './ip.ts';
import type { PopMplsStep, PushMplsStep, SetMplsStep } from './mpls.ts';
import type { OutputStep, TruncStep } from './output.ts';
import type { PortsStep } from './ports.ts';
import type { RecirculateStep } from './recirc.ts';
import type { MetadataStep } from './set.ts';
import type { PopVlanStep, PushVlanStep } from './vlan.ts';
import type { ShapeWriter } from './writer.ts';

/**
 * How a 32-bit field is set: whole (one parameter: the value), in part (value, then the bits that stay), or not at all.
 * Values lie in the parameters as the packet has them, in network order.
 */
export type WordForm = 'f' | 'm' | '-';

/** Which transport checksum covers an address: of one protocol, none, or whatever the packet says. */
export type Transport = 'tcp' | 'udp' | 'icmp6' | 'none' | 'any';

/** One step of a shape. Each is told by the file that compiles it and writes its code; its parameters lie behind those of the steps before. */
export type Step =
  | OutputStep
  | TruncStep
  | EthernetStep
  | Ipv4Step
  | Ipv6Step
  | PortsStep
  | MetadataStep
  | DecTtlStep
  | PushVlanStep
  | PopVlanStep
  | PushMplsStep
  | PopMplsStep
  | SetMplsStep
  | HashStep
  | RecirculateStep
  | LengthStep
  | DropStep
  | TrackStep
  | TranslateStep
  | ForgetStep;

/** What is known of a step by its kind. */
export interface StepCode<S extends Step = Step> {
  /** How it is written in an id. @param inside the same of steps inside */
  name(step: S, inside: (steps: readonly Step[]) => string): string;
  /** How many parameters it has. @param inside the same of steps inside */
  parameters(step: S, inside: (steps: readonly Step[]) => number): number;
  /** Whether a packet may still be handed up behind it, as if it had just come, always or at a hook. False when left out. */
  readonly leavesNoTrace?: boolean | OffloadHook;
  /** Whether it keeps the headers itself that it is about to change, where they are kept at all: it changes some packets alone. False when left out. */
  readonly keepsHeaders?: boolean;
  /** What has to be found out before copies are shown to captures. */
  check?(writer: ShapeWriter, step: S): void;
  emit(writer: ShapeWriter, step: S): void;
}

/** Parameters of a field. */
export function formWords(form: WordForm): number {
  return form === 'f' ? 1 : form === 'm' ? 2 : 0;
}

/** What must hold of a packet before its first change; a packet of which it does not is punted. */
export interface Checks {
  /** Bytes that must be there from layer 3 on. */
  layer3Bytes: number;
  /** An IPv4 header without options, or an IPv6 header with the transport header right behind it, of this protocol (-1: of any). */
  plain: 0 | 4 | 6;
  plainProtocol: number;
  /** Not a later fragment (IPv4). */
  notLater: boolean;
  /** The time to live is greater than this; 0 for no check. */
  ttlAbove: number;
  ttlVersion: 4 | 6;
  /** Room for the transport header of whatever protocol that has a checksum over addresses. */
  anyTransport: boolean;
  /** tc: whether there is a tag beside the packet, and whether another one lies in it. */
  tags: 'none' | 'one' | 'two' | 'any';
  /** Not a super-packet. */
  single: boolean;
  /** Layer 3 begins right behind an Ethernet header without tags. */
  layer3At14: boolean;
  /** tc: the packet may be changed and then looked up again: if it is not found it must be able to go up as it is. */
  resumes: boolean;
  /** XDP: the same, and if it is not found it is made what it was, and goes up as it came. */
  undoes: boolean;
}

/** Checks that nothing fails. */
export function noChecks(): Checks {
  return {
    layer3Bytes: 0,
    plain: 0,
    plainProtocol: -1,
    notLater: false,
    ttlAbove: 0,
    ttlVersion: 4,
    anyTransport: false,
    tags: 'any',
    single: false,
    layer3At14: false,
    resumes: false,
    undoes: false,
  };
}

/** An action list without its numbers. Shapes with the same id have the same code. */
export interface Shape {
  /** Canonical, and readable: "xdp need l3=40 | ethernet(fff) ipv4(ttl) output". */
  readonly id: string;
  readonly hook: OffloadHook;
  readonly steps: readonly Step[];
  readonly checks: Checks;
  /** Length of the parameters. */
  readonly parameterWords: number;
  /** Words of the flow key that the code reads. */
  readonly keyWords: readonly number[];
  /** Whether the code asks for the offset of layer 3. */
  readonly needsLayer3: boolean;
}
