/**
 * Shapes: action lists without their numbers. All flows with the same kinds of actions share one shape, and with it one piece of
 * code; the numbers are parameters, in the order of the steps. compile.ts makes shapes, emit.ts writes their code.
 */
import type { OffloadHook } from './contract.ts';

/**
 * How a 32-bit field is set: whole (one parameter: the value), in part (value, then the bits that stay), or not at all.
 * Values lie in the parameters as the packet has them, in network order.
 */
export type WordForm = 'f' | 'm' | '-';

/** Which transport checksum covers an address: of one protocol, none, or whatever the packet says. */
export type Transport = 'tcp' | 'udp' | 'icmp6' | 'none' | 'any';

/** One step of a shape. */
export type Step =
  /** Parameters: ifindex, redirect flags. `last` gives the packet away, else a copy goes. */
  | { readonly kind: 'output'; readonly last: boolean }
  /** The three words of both MAC addresses. */
  | { readonly kind: 'ethernet'; readonly words: readonly WordForm[] }
  /** tos and ttl are one parameter each: value and bits that stay of the 16 bits that they lie in. */
  | {
      readonly kind: 'ipv4';
      readonly tos: boolean;
      readonly ttl: boolean;
      readonly words: readonly WordForm[];
      readonly transport: Transport;
    }
  /** The first word (class and label) in part, the hop limit as for IPv4, eight words of addresses. */
  | {
      readonly kind: 'ipv6';
      readonly first: boolean;
      readonly ttl: boolean;
      readonly words: readonly WordForm[];
      readonly transport: Transport;
    }
  | { readonly kind: 'ports'; readonly version: 4 | 6; readonly word: WordForm; readonly transport: 'tcp' | 'udp' }
  | { readonly kind: 'decTtl'; readonly version: 4 | 6 }
  /** A parameter: TPID 16 | TCI 16, in host order. */
  | { readonly kind: 'pushVlan'; readonly onto: boolean }
  /** `next`: another tag lies behind, which becomes the outer one. */
  | { readonly kind: 'popVlan'; readonly next: boolean }
  /** Parameters: entry, EtherType in network order. */
  | { readonly kind: 'pushMpls' }
  /** A parameter: the EtherType below, in network order. */
  | { readonly kind: 'popMpls' }
  | { readonly kind: 'setMpls'; readonly word: WordForm }
  /** skb mark or priority: value, bits that stay; in host order. */
  | { readonly kind: 'metadata'; readonly field: 'mark' | 'priority' }
  /** A parameter: most bytes of the output that follows. */
  | { readonly kind: 'trunc' }
  /** Parameters: basis; the secret is two more. `words` of IP addresses go in. */
  | { readonly kind: 'hash'; readonly algorithm: number; readonly over: 'ipv4' | 'ipv6' | 'ethernet' }
  /** A parameter: the recirculation id. */
  | { readonly kind: 'recirculate' }
  /** A parameter: length. `longer` runs for packets longer than it, `else` for the others. */
  | { readonly kind: 'length'; readonly longer: readonly Step[]; readonly otherwise: readonly Step[] }
  /** The packet ends here, counted under a reason of flow/'s Drop, or not at all for 0. */
  | { readonly kind: 'drop'; readonly reason: number };

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

/** How a step is written in an id. */
function stepName(step: Step): string {
  switch (step.kind) {
    case 'output':
      return step.last ? 'output' : 'copy';
    case 'ethernet':
      return `ethernet(${step.words.join('')})`;
    case 'ipv4':
      return `ipv4(${step.tos ? 'tos,' : ''}${step.ttl ? 'ttl,' : ''}${step.words.join('')},${step.transport})`;
    case 'ipv6':
      return `ipv6(${step.first ? 'first,' : ''}${step.ttl ? 'ttl,' : ''}${step.words.join('')},${step.transport})`;
    case 'ports':
      return `${step.transport}${step.version}(${step.word})`;
    case 'decTtl':
      return `dec_ttl${step.version}`;
    case 'pushVlan':
      return step.onto ? 'push_vlan(onto)' : 'push_vlan';
    case 'popVlan':
      return step.next ? 'pop_vlan(next)' : 'pop_vlan';
    case 'pushMpls':
      return 'push_mpls';
    case 'popMpls':
      return 'pop_mpls';
    case 'setMpls':
      return `mpls(${step.word})`;
    case 'metadata':
      return step.field;
    case 'trunc':
      return 'trunc';
    case 'hash':
      return `hash${step.algorithm}(${step.over})`;
    case 'recirculate':
      return 'recirc';
    case 'length':
      return `length(${step.longer.map(stepName).join(' ')} : ${step.otherwise.map(stepName).join(' ')})`;
    case 'drop':
      return `drop(${step.reason})`;
  }
}

/** The id of a shape. */
export function shapeId(hook: OffloadHook, checks: Checks, steps: readonly Step[]): string {
  const needs: string[] = [];
  if (checks.layer3Bytes > 0) needs.push(`l3=${checks.layer3Bytes}`);
  if (checks.plain !== 0) needs.push(`plain${checks.plain}=${checks.plainProtocol}`);
  if (checks.notLater) needs.push('not-later');
  if (checks.ttlAbove > 0) needs.push(`ttl${checks.ttlVersion}>${checks.ttlAbove}`);
  if (checks.anyTransport) needs.push('transport');
  if (checks.tags !== 'any') needs.push(`tags=${checks.tags}`);
  if (checks.single) needs.push('single');
  if (checks.layer3At14) needs.push('l3@14');
  return `${hook}${needs.length === 0 ? '' : ` need ${needs.join(',')}`} | ${steps.map(stepName).join(' ')}`;
}
