/**
 * From an action list to a shape and its parameters, or to the reason why eBPF does not carry it. The walk follows what the
 * engine of flow/ would do, knows of the packet what the flow's key says, and gathers what must be checked before the first change.
 * compile-set.ts knows the set actions, shape.ts what comes out.
 */
import {
  Action,
  actionLength,
  actionName,
  actionType,
  Drop,
  HashAlgorithm,
  isMpls,
  isSameOutcome,
  KeyAttribute,
  L3_MARKER,
  MPLS_L3_TUNNEL,
  outcomeOf,
  TAG_PRESENT,
  Word,
} from '../../flow/index.ts';
import { EtherType } from '../../net/index.ts';
import { Compilation, type PacketState, type Piece } from './compilation.ts';
import { setEthernet, setIpv4, setIpv6, setMetadata, setMpls, setPorts } from './compile-set.ts';
import type { CompileContext, Compiled } from './contract.ts';
import { network16, network32 } from './order.ts';
import { type Step, shapeId } from './shape.ts';

/** Longest parameters: the entries of the tables have a fixed length. */
export const MAXIMUM_PARAMETERS = 64;

/** The kernel cuts no packet within its headers, which are never longer than this; behind an output it is too late to find out. */
const SAFE_LIMIT_BYTES = 256;

/**
 * Compile a list.
 * @param words a list that validateActions takes
 * @param maskedKey the flow's key, bits outside the mask 0
 * @returns shape and parameters, or a reason for people: a short phrase
 */
export function compileActions(
  words: Int32Array,
  maskedKey: Uint32Array,
  mask: Uint32Array,
  context: CompileContext,
): Compiled {
  if ((maskedKey[Word.ETH_TYPE] & L3_MARKER) !== 0) return { reason: 'packets without an Ethernet header' };
  const state = stateOf(maskedKey, mask);
  const compilation = new Compilation(context, state.tags);
  const piece = new ListCompiler(compilation, state).compile(words, 0, words.length);
  if (piece === null) return { reason: compilation.reason ?? 'actions that eBPF cannot do' };
  if (piece.parameters.length > MAXIMUM_PARAMETERS) return { reason: 'more actions than an entry holds' };
  const { checks, keyWords, needsLayer3 } = compilation;
  const shape = {
    id: shapeId(context.hook, checks, piece.steps),
    hook: context.hook,
    steps: piece.steps,
    checks,
    parameterWords: piece.parameters.length,
    keyWords,
    needsLayer3,
  };
  return { shape, parameters: Uint32Array.from(piece.parameters) };
}

function stateOf(key: Uint32Array, mask: Uint32Array): PacketState {
  const outer = mask[Word.VLAN] & TAG_PRESENT;
  const hasOuter = (key[Word.VLAN] & TAG_PRESENT) !== 0;
  const hasInner = (key[Word.INNER_VLAN] & TAG_PRESENT) !== 0;
  return {
    etherType: mask[Word.ETH_TYPE] >>> 16 === 0xffff ? key[Word.ETH_TYPE] >>> 16 : -1,
    protocol: mask[Word.IP] >>> 24 === 0xff ? key[Word.IP] >>> 24 : -1,
    fragment: (mask[Word.IP] & 3) === 3 ? key[Word.IP] & 3 : -1,
    keyHolds: true,
    tags: outer === 0 ? -1 : hasOuter ? (hasInner ? 2 : 1) : 0,
    ttl: -1,
    decrements: 0,
    changed: false,
    sent: false,
    lost: false,
    popped: 0,
    layer3Known: true,
  };
}

/** Compiles one list, and those in it. */
class ListCompiler {
  readonly #all: Compilation;
  readonly #state: PacketState;
  readonly #piece: Piece = { steps: [], parameters: [] };
  /** Where the list may be cut: steps and parameters up to the last output. */
  #usedSteps = 0;
  #usedParameters = 0;
  /** The path has ended: nothing behind it runs. */
  #ended = false;
  /** Most bytes of the next output, -1 for no limit. */
  #limit = -1;
  /** An output was truncated: the packet is not whole any more. */
  #cut = false;
  #hash: { readonly algorithm: number; readonly basis: number } | null = null;

  constructor(all: Compilation, state: PacketState) {
    this.#all = all;
    this.#state = state;
  }

  compile(words: Int32Array, from: number, end: number): Piece | null {
    if (!this.#list(words, from, end, true)) return null;
    const { steps, parameters } = this.#piece;
    if (this.#ended) return this.#piece;
    // What comes behind the last output changes a packet that nobody sees.
    const used = steps.slice(0, this.#usedSteps);
    const last = used.at(-1);
    if (last?.kind === 'output') used[used.length - 1] = { kind: 'output', last: true };
    else used.push({ kind: 'drop', reason: this.#reasonOfEnd() });
    return { steps: used, parameters: parameters.slice(0, this.#usedParameters) };
  }

  /** Why packets end for which nothing is left to do; 0 when copies of them were sent. */
  #reasonOfEnd(): number {
    if (this.#state.sent) return 0;
    return this.#state.lost ? Drop.OUTPUT_REFUSED : Drop.FLOW;
  }

  #refuse(reason: string): false {
    return this.#all.refuse(reason);
  }

  #list(words: Int32Array, from: number, end: number, isLast: boolean): boolean {
    for (let at = from; at < end && !this.#ended; ) {
      const next = at + actionLength(words[at]);
      if (next <= at || next > end) return this.#refuse('a malformed action list');
      if (!this.#one(words, at, next, isLast && next === end)) return false;
      at = next;
    }
    return true;
  }

  #one(words: Int32Array, at: number, end: number, isLast: boolean): boolean {
    const first = words[at + 1];
    const type = actionType(words[at]);
    switch (type) {
      case Action.OUTPUT:
        return this.#output(first >>> 0);
      case Action.SET:
      case Action.SET_MASKED:
        return this.#set(words, at, end);
      case Action.PUSH_VLAN:
        return this.#pushVlan(first);
      case Action.POP_VLAN:
        return this.#popVlan();
      case Action.PUSH_MPLS:
        return this.#pushMpls(first, words[at + 2]);
      case Action.ADD_MPLS:
        if ((words[at + 3] & MPLS_L3_TUNNEL) === 0) return this.#refuse('MPLS before the Ethernet header');
        return this.#pushMpls(first, words[at + 2]);
      case Action.POP_MPLS:
        return this.#popMpls(first);
      case Action.DEC_TTL:
        return this.#decTtl();
      case Action.TRUNC:
        return this.#trunc(first >>> 0);
      case Action.HASH:
        this.#hash = { algorithm: first, basis: words[at + 2] };
        return true;
      case Action.RECIRC:
        return this.#recirculate(first, isLast);
      case Action.CLONE:
        return this.#nested(words, at + 1, end, isLast);
      case Action.SAMPLE:
        // A sample of all packets is a clone.
        return first === -1 ? this.#nested(words, at + 2, end, isLast) : this.#refuse('action sample');
      case Action.CHECK_PKT_LEN:
        return this.#checkLength(words, at, end, isLast);
      case Action.DROP:
        return this.#drop(first);
      default:
        return this.#refuse(`action ${actionName(type)}`);
    }
  }

  #push(step: Step, ...parameters: number[]): true {
    this.#piece.steps.push(step);
    this.#piece.parameters.push(...parameters);
    return true;
  }

  #use(): void {
    this.#usedSteps = this.#piece.steps.length;
    this.#usedParameters = this.#piece.parameters.length;
  }

  #output(port: number): boolean {
    const { hook } = this.#all.context;
    const target = this.#all.context.port(port);
    if (target === null) {
      const why = this.#all.context.absenceOf?.(port) ?? 'has no interface';
      return this.#refuse(`output to port ${port}, which ${why}`);
    }
    if (target.isDown === true) {
      // The port counts what would have gone there.
      this.#limit = -1;
      this.#state.lost = true;
      return true;
    }
    if (this.#state.sent && hook === 'xdp') return this.#refuse('output to several ports');
    if (this.#cut) return this.#refuse('actions behind a truncated output');
    if (hook === 'xdp' && !target.xdp) return this.#refuse(`output to port ${port}, which XDP cannot send to`);
    if (this.#limit !== -1) {
      if (hook === 'tc' && this.#state.changed) return this.#refuse('truncation of a changed packet');
      if (this.#state.sent && this.#limit < SAFE_LIMIT_BYTES) return this.#refuse('short truncation behind an output');
      this.#all.checks.single = true;
      this.#push({ kind: 'trunc' }, this.#limit);
      this.#cut = true;
      this.#limit = -1;
    }
    this.#push({ kind: 'output', last: false }, target.ifindex, target.ingress ? 1 : 0);
    this.#use();
    this.#state.sent = true;
    return true;
  }

  #trunc(limit: number): boolean {
    this.#limit = Math.min(limit, 0x7fff_ffff);
    return true;
  }

  #drop(error: number): boolean {
    if (this.#state.sent) return this.#refuse('drop behind an output');
    this.#ended = true;
    return this.#push({ kind: 'drop', reason: error === 0 ? Drop.EXPLICIT : Drop.EXPLICIT_ERROR });
  }

  #recirculate(id: number, isLast: boolean): boolean {
    const { changed, sent, etherType } = this.#state;
    if (!isLast) return this.#refuse('actions behind recirculation');
    if (changed) return this.#refuse('recirculation of a changed packet');
    if (sent) return this.#refuse('recirculation behind an output');
    if (this.#hash !== null && !this.#hashStep(this.#hash.algorithm, this.#hash.basis, etherType)) return false;
    this.#ended = true;
    return this.#push({ kind: 'recirculate' }, id >>> 0);
  }

  #hashStep(algorithm: number, basis: number, etherType: number): boolean {
    const secret = this.#all.context.hashSecret;
    if (secret === undefined && algorithm === HashAlgorithm.L4) return this.#refuse('action hash');
    if (etherType === -1) return this.#refuse('hash without a match on the EtherType');
    const words = this.#all.keyWords;
    const over = etherType === EtherType.IPV4 ? 'ipv4' : etherType === EtherType.IPV6 ? 'ipv6' : 'ethernet';
    if (over === 'ethernet') words.push(Word.MAC, Word.MAC + 1, Word.MAC + 2, Word.ETH_TYPE);
    else {
      words.push(Word.PORTS, Word.IP);
      const addresses = over === 'ipv4' ? 2 : 8;
      for (let i = 0; i < addresses; i += 1) words.push(Word.IPV4_SOURCE + i);
    }
    const mixed = Math.imul(basis, 0xc2b2_ae35) >>> 0;
    return this.#push({ kind: 'hash', algorithm, over }, mixed, (secret?.low ?? 0) >>> 0, (secret?.high ?? 0) >>> 0);
  }

  /** A list over a copy: as the last action it may have the packet itself, else it must leave it as it is. */
  #nested(words: Int32Array, from: number, end: number, isLast: boolean): boolean {
    if (isLast) return this.#list(words, from, end, true);
    if (this.#limit !== -1) return this.#refuse('truncation across a clone');
    for (let at = from; at < end; at += actionLength(words[at])) {
      if (actionType(words[at]) !== Action.OUTPUT) return this.#refuse('a clone that does more than output');
    }
    return this.#list(words, from, end, false);
  }

  #checkLength(words: Int32Array, at: number, end: number, isLast: boolean): boolean {
    if (!isLast) return this.#refuse('actions behind check_pkt_len');
    const middle = at + 3 + words[at + 2];
    if (this.#limit !== -1 || this.#cut) return this.#refuse('truncation across check_pkt_len');
    if (this.#state.sent && this.#all.context.hook === 'xdp') return this.#refuse('output to several ports');
    // What a flow carries is counted at the ports where it leads, and a flow does not count its ways apart.
    if (!isSameOutcome(outcomeOf(words, at + 3, middle), outcomeOf(words, middle, end))) {
      return this.#refuse('check_pkt_len whose ways lead to different ports');
    }
    this.#all.checks.single = true;
    const longer = new ListCompiler(this.#all, { ...this.#state }).compile(words, at + 3, middle);
    const otherwise =
      longer === null ? null : new ListCompiler(this.#all, { ...this.#state }).compile(words, middle, end);
    if (longer === null || otherwise === null) return false;
    this.#ended = true;
    this.#push(
      { kind: 'length', longer: longer.steps, otherwise: otherwise.steps },
      words[at + 1],
      ...longer.parameters,
      ...otherwise.parameters,
    );
    return true;
  }

  #set(words: Int32Array, at: number, end: number): boolean {
    const attribute = words[at + 1];
    const pairs = words.subarray(at + 2, end);
    const { keyHolds } = this.#state;
    switch (attribute) {
      case KeyAttribute.ETHERNET:
        return setEthernet(this.#all, this.#state, this.#piece, pairs);
      case KeyAttribute.IPV4:
        return keyHolds ? setIpv4(this.#all, this.#state, this.#piece, pairs) : this.#refuse('set behind MPLS');
      case KeyAttribute.IPV6:
        return keyHolds ? setIpv6(this.#all, this.#state, this.#piece, pairs) : this.#refuse('set behind MPLS');
      case KeyAttribute.TCP:
      case KeyAttribute.UDP:
        if (!keyHolds) return this.#refuse('set behind MPLS');
        return setPorts(this.#all, this.#state, this.#piece, attribute === KeyAttribute.TCP, pairs);
      case KeyAttribute.MPLS:
        return setMpls(this.#all, this.#state, this.#piece, pairs);
      case KeyAttribute.PRIORITY:
        return setMetadata(this.#all, this.#state, this.#piece, 'priority', pairs);
      case KeyAttribute.SKB_MARK:
        return setMetadata(this.#all, this.#state, this.#piece, 'mark', pairs);
      default:
        return this.#refuse(UNSETTABLE.get(attribute) ?? `set of attribute ${attribute}`);
    }
  }

  /** tc: the tags that the packet has to begin with. */
  #checkTags(): void {
    const { checks, firstTags } = this.#all;
    if (firstTags !== -1) checks.tags = (['none', 'one', 'two'] as const)[firstTags];
  }

  #pushVlan(tag: number): boolean {
    const state = this.#state;
    this.#checkTags();
    if (state.tags === -1) state.layer3Known = this.#all.context.hook === 'xdp';
    const onto = state.tags > 0;
    if (state.tags !== -1) state.tags += 1;
    state.changed = true;
    return this.#push({ kind: 'pushVlan', onto }, (tag & ~TAG_PRESENT) >>> 0);
  }

  #popVlan(): boolean {
    const state = this.#state;
    if (state.tags === 0) return true;
    if (state.tags === -1) return this.#refuse('pop_vlan without a match on the tag');
    this.#checkTags();
    state.tags -= 1;
    state.changed = true;
    const next = state.tags > 0;
    // Whether there is a second tag is checked where tags lie beside the packet; where they lie in it, it need not be known.
    if (!next && this.#all.context.hook === 'xdp') state.tags = state.tags === 0 ? -1 : state.tags;
    return this.#push({ kind: 'popVlan', next });
  }

  #pushMpls(entry: number, etherType: number): boolean {
    const state = this.#state;
    if (state.tags !== 0 || this.#all.firstTags !== 0) return this.#refuse('MPLS and VLAN tags together');
    this.#mplsChecks(0);
    state.etherType = etherType;
    state.keyHolds = false;
    return this.#push({ kind: 'pushMpls' }, network32(entry), network16(etherType));
  }

  #popMpls(etherType: number): boolean {
    const state = this.#state;
    if (state.tags !== 0 || this.#all.firstTags !== 0) return this.#refuse('MPLS and VLAN tags together');
    if (!isMpls(state.etherType)) return this.#refuse('pop_mpls without a match on the EtherType');
    state.popped += 1;
    this.#mplsChecks(4 * state.popped);
    state.etherType = etherType & 0xffff;
    state.keyHolds = false;
    return this.#push({ kind: 'popMpls' }, network16(etherType));
  }

  #mplsChecks(bytes: number): void {
    const { checks } = this.#all;
    this.#all.needsLayer3 = true;
    checks.layer3At14 = true;
    checks.single = true;
    checks.tags = 'none';
    checks.layer3Bytes = Math.max(checks.layer3Bytes, bytes);
    this.#state.changed = true;
  }

  #decTtl(): boolean {
    const state = this.#state;
    const { checks } = this.#all;
    if (state.etherType === -1) return this.#refuse('dec_ttl without a match on the EtherType');
    if (!state.keyHolds) return this.#refuse('dec_ttl behind MPLS');
    const isIpv4 = state.etherType === EtherType.IPV4;
    // Other packets have no time to live, and stay as they are.
    if (!isIpv4 && state.etherType !== EtherType.IPV6) return true;
    if (!state.layer3Known)
      return this.#refuse('dec_ttl behind a tag on packets of which the flow does not know the tags');
    if (state.ttl === -2) return this.#refuse('dec_ttl behind a masked set of the time to live');
    if (state.ttl !== -1 && state.ttl <= 1) return this.#refuse('a time to live that runs out');
    checks.layer3Bytes = Math.max(checks.layer3Bytes, isIpv4 ? 20 : 40);
    this.#all.needsLayer3 = true;
    state.changed = true;
    if (state.ttl === -1) {
      state.decrements += 1;
      checks.ttlAbove = Math.max(checks.ttlAbove, state.decrements);
      checks.ttlVersion = isIpv4 ? 4 : 6;
      return this.#push({ kind: 'decTtl', version: isIpv4 ? 4 : 6 });
    }
    state.ttl -= 1;
    const pairs = new Int32Array(isIpv4 ? 6 : 20);
    pairs[0] = state.ttl << 8;
    pairs[1] = 0xff00;
    return (isIpv4 ? setIpv4 : setIpv6)(this.#all, state, this.#piece, pairs);
  }
}

const UNSETTABLE: ReadonlyMap<number, string> = new Map([
  [KeyAttribute.TUNNEL as number, 'output to a tunnel'],
  [KeyAttribute.SCTP, 'set of SCTP ports'],
  [KeyAttribute.ICMP, 'set of ICMP'],
  [KeyAttribute.ICMPV6, 'set of ICMPv6'],
  [KeyAttribute.ARP, 'set of ARP'],
  [KeyAttribute.ND, 'set of neighbour discovery'],
  [KeyAttribute.NSH, 'set of NSH'],
]);
