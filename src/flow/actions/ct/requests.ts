/** Requests of connection tracking, made of the words of CT once and found again by these. Neighbour: engine/tracking.ts uses them for each packet. */
import { ConnectionAction, type ConnectionRequest, helperNamed, type NatTarget } from '../../../connections/index.ts';
import { formatIpv4, formatIpv6 } from '../../../net/index.ts';
import { actionLength, unpackBytes } from '../encoding.ts';
import { Ct, CtFlag, NatFlag, namesOf } from './words.ts';

/** Requests that are kept: flows by the thousand have a few of them. One that is pushed out is made anew. */
const PLACES = 1024;

class Request {
  readonly words: Int32Array;
  readonly action: ConnectionAction;
  /** State of the policies when its own was looked up; -1 for one without. */
  readonly policies: number;

  constructor(words: Int32Array, action: ConnectionAction, policies: number) {
    this.words = words;
    this.action = action;
    this.policies = policies;
  }

  isOf(words: Int32Array, at: number): boolean {
    const own = this.words;
    for (let i = 0; i < own.length; i += 1) if (own[i] !== words[at + i]) return false;
    return true;
  }
}

/** Time-out policies by name: those of a table of connections. */
export interface PolicyNames {
  /** Grows when names come or go. */
  readonly changes: number;
  numberOf(name: string): number | undefined;
}

/** The requests that were met last. */
export class CtRequests {
  readonly #requests: (Request | undefined)[] = [];
  #last: Request | undefined;

  /** The request of an action of a list that was validated. @param at where its head lies */
  of(words: Int32Array, at: number, policies: PolicyNames): ConnectionAction {
    const last = this.#last;
    if (last?.isOf(words, at) && this.#holds(last, policies)) return last.action;
    const place = hash(words, at) & (PLACES - 1);
    let request = this.#requests[place];
    if (!request?.isOf(words, at) || !this.#holds(request, policies)) {
      request = make(words, at, policies);
      this.#requests[place] = request;
    }
    this.#last = request;
    return request.action;
  }

  #holds(request: Request, policies: PolicyNames): boolean {
    return request.policies === -1 || request.policies === policies.changes;
  }
}

function hash(words: Int32Array, at: number): number {
  const end = at + actionLength(words[at]);
  let value = 0;
  for (let i = at + 1; i < end; i += 1) value = Math.imul(value ^ words[i], 0x9e37_79b1) ^ (value >>> 15);
  return value ^ (value >>> 13);
}

function make(words: Int32Array, at: number, policies: PolicyNames): Request {
  const own = words.slice(at, at + actionLength(words[at]));
  const { timeout } = namesOf(own, 0);
  const action = new ConnectionAction(requestOf(own, timeout === '' ? 0 : (policies.numberOf(timeout) ?? 0)));
  return new Request(own, action, timeout === '' ? -1 : policies.changes);
}

/** @param policy number of its time-out policy, which may be unknown still: then it has none */
function requestOf(words: Int32Array, policy: number): ConnectionRequest {
  const flags = words[Ct.FLAGS];
  const four = (from: number) => Array.from(words.subarray(from, from + 4));
  const helper = helperNamed(namesOf(words, 0).helper);
  return {
    zone: words[Ct.ZONE],
    commit: (flags & CtFlag.COMMIT) !== 0,
    force: (flags & CtFlag.FORCE) !== 0,
    policy,
    // As openvswitch.ko has it: what is out of a window is not called invalid.
    liberal: true,
    ...((flags & CtFlag.MARK) === 0 ? {} : { mark: { value: words[Ct.MARK], mask: words[Ct.MARK_MASK] } }),
    ...((flags & CtFlag.LABEL) === 0 ? {} : { label: { value: four(Ct.LABEL), mask: four(Ct.LABEL_MASK) } }),
    ...((flags & CtFlag.EVENT_MASK) === 0 ? {} : { events: words[Ct.EVENT_MASK] }),
    ...(helper === undefined ? {} : { helper: helper.name }),
    ...((flags & CtFlag.NAT) === 0 ? {} : { nat: natOf(words) }),
  };
}

function natOf(words: Int32Array): NonNullable<ConnectionRequest['nat']> {
  const flags = words[Ct.NAT_FLAGS];
  if (flags === 0) return {};
  const address = (from: number) => {
    const bytes = unpackBytes(words, from, 16);
    return (flags & NatFlag.IPV6) === 0 ? formatIpv4(bytes) : formatIpv6(bytes);
  };
  const hasAddresses = (flags & (NatFlag.IPV4 | NatFlag.IPV6)) !== 0;
  const isHashed = (flags & NatFlag.PROTO_HASH) !== 0;
  const isRandom = (flags & NatFlag.PROTO_RANDOM) !== 0;
  const target: NatTarget = {
    ...(hasAddresses ? { addresses: [address(Ct.NAT_MINIMUM), address(Ct.NAT_MAXIMUM)] } : {}),
    ...((flags & NatFlag.PORTS) === 0 ? {} : { ports: [words[Ct.NAT_PORTS] >>> 16, words[Ct.NAT_PORTS] & 0xffff] }),
    ...(isHashed ? { choice: 'hash' } : isRandom ? { choice: 'random' } : {}),
    ...((flags & NatFlag.PERSISTENT) === 0 ? {} : { isPersistent: true }),
  };
  return (flags & NatFlag.SOURCE) === 0 ? { destination: target } : { source: target };
}
