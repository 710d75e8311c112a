/**
 * How long a connection lasts without packets: policies with a time-out for each state of each protocol. They lie in the control array, where programs
 * read them too. The defaults are Linux's.
 */
import { IpProtocol } from '../net/index.ts';
import { ControlWord, POLICIES, POLICY_NAME, POLICY_NAME_BYTES, POLICY_WORDS } from './layout.ts';

/** Places of time-outs in a policy's row, in milliseconds each; a record names one of them. */
export const TimeOut = {
  /** TCP's by state (tcp-state.ts), state 1 at place 1, and two that shorten them. */
  TCP: 0,
  TCP_RETRANSMITTED: 10,
  TCP_UNACKNOWLEDGED: 11,
  UDP_UNREPLIED: 12,
  UDP_REPLIED: 13,
  ICMP: 14,
  ICMPV6: 15,
  GENERIC: 16,
  GRE_UNREPLIED: 17,
  GRE_REPLIED: 18,
  /** SCTP's by state (sctp.ts), state 1 at place 20. */
  SCTP: 19,
} as const;

/** Time-outs of a row. The last place holds none: there stands what the policy is for, a number of whoever has defined it. */
const TIMEOUTS = 32;
const SCOPE = TIMEOUTS - 1;
/** Longer than this, 11 days, no connection lasts without packets: differences of 32-bit clocks have to have a sign. */
export const LONGEST_MS = 1_000_000_000;
/** Room for a name, which ends with a zero or fills it. */
const NAME_WORDS = POLICY_WORDS - POLICY_NAME;

/** What is set by name: the name that Linux's tools use, its place, and the default in milliseconds. They stand in the order in which netlink numbers them, from 1. */
const SETTINGS = {
  tcp: {
    syn_sent: [1, 120_000],
    syn_recv: [2, 60_000],
    established: [3, 432_000_000],
    fin_wait: [4, 120_000],
    close_wait: [5, 60_000],
    last_ack: [6, 30_000],
    time_wait: [7, 120_000],
    close: [8, 10_000],
    syn_sent2: [9, 120_000],
    retransmission: [TimeOut.TCP_RETRANSMITTED, 300_000],
    unacknowledged: [TimeOut.TCP_UNACKNOWLEDGED, 300_000],
  },
  udp: { unreplied: [TimeOut.UDP_UNREPLIED, 30_000], replied: [TimeOut.UDP_REPLIED, 120_000] },
  icmp: { timeout: [TimeOut.ICMP, 30_000] },
  icmpv6: { timeout: [TimeOut.ICMPV6, 30_000] },
  generic: { timeout: [TimeOut.GENERIC, 600_000] },
  gre: { unreplied: [TimeOut.GRE_UNREPLIED, 30_000], replied: [TimeOut.GRE_REPLIED, 180_000] },
  sctp: {
    closed: [20, 10_000],
    cookie_wait: [21, 3000],
    cookie_echoed: [22, 3000],
    established: [23, 210_000],
    shutdown_sent: [24, 3000],
    shutdown_recd: [25, 3000],
    shutdown_ack_sent: [26, 3000],
    heartbeat_sent: [27, 30_000],
  },
} as const satisfies Record<string, Record<string, readonly [number, number]>>;

/** Protocols with time-outs of their own; generic is for all others. */
export type TimedProtocol = keyof typeof SETTINGS;

/** The names of a protocol's time-outs, in the order of their numbers in netlink. */
export function timeOutNames(protocol: TimedProtocol): readonly string[] {
  return Object.keys(SETTINGS[protocol]);
}

type TimeOutTable = Readonly<Record<string, Readonly<Record<string, readonly [number, number]>>>>;

/** Time-outs in milliseconds by protocol (tcp, udp, icmp, icmpv6, generic, gre, sctp) and by the state's name in Linux, such as `{ tcp: { syn_sent: 60_000 } }`. */
export type TimeOutValues = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** First word of the name of a policy that was removed while connections have it: no text begins with these bytes. */
const REMOVED = -1;

/** The policies of a table. */
export class TimeOutPolicies {
  readonly #control: Int32Array;
  readonly #users = new Int32Array(POLICIES);
  readonly #numbers = new Map<string, number>();
  #changes = 0;

  /** @param control a control array that is written already, or that {@link format} writes next */
  constructor(control: Int32Array) {
    this.#control = control;
    for (let policy = 1; policy < POLICIES; policy += 1) {
      const name = this.#readName(policy);
      if (name !== '') this.#numbers.set(name, policy);
    }
  }

  /** Write Linux's defaults as policy 0, and no other. */
  format(): void {
    this.#control.fill(0, ControlWord.POLICIES, ControlWord.POLICIES + POLICIES * POLICY_WORDS);
    this.#numbers.clear();
    eachTimeOut((_protocol, _name, place, valueMs) => {
      this.#control[this.#at(0) + place] = valueMs;
    });
  }

  /** Bring all time-outs that stand in the memory into the range from 0 to {@link LONGEST_MS}: others may have written them. */
  clamp(): void {
    for (let policy = 0; policy < POLICIES; policy += 1) {
      const at = this.#at(policy);
      for (let place = at; place < at + TIMEOUTS; place += 1) {
        this.#control[place] = Math.min(Math.max(this.#control[place], 0), LONGEST_MS);
      }
    }
  }

  /** Grows with each policy that comes or goes: what a name means may be another then. */
  get changes(): number {
    return this.#changes;
  }

  /** A time-out in milliseconds. */
  get(policy: number, place: number): number {
    return this.#control[ControlWord.POLICIES + policy * POLICY_WORDS + place];
  }

  /** Names of all policies that were defined. */
  names(): string[] {
    return [...this.#numbers.keys()];
  }

  /** The number of a policy, for the action that names it; undefined when there is none. */
  numberOf(name: string): number | undefined {
    return this.#numbers.get(name);
  }

  /** What a policy is for, as {@link define} was told. */
  scopeOf(policy: number): number {
    return this.get(policy, SCOPE);
  }

  /** Connections that have a policy. */
  users(policy: number): number {
    return this.#users[policy];
  }

  /** Whether there is no room for another policy. */
  get isFull(): boolean {
    return this.#free() === 0;
  }

  /** All values of a policy. @param policy its number; 0 for the defaults */
  valuesOf(policy: number): Record<string, Record<string, number>> {
    const values: Record<string, Record<string, number>> = {};
    eachTimeOut((protocol, name, place) => {
      values[protocol] ??= {};
      values[protocol][name] = this.get(policy, place);
    });
    return values;
  }

  /** Change the defaults. They hold for the connections that are there as well. @throws RangeError for names and values that there are not */
  setDefaults(values: TimeOutValues): void {
    this.#write(0, values);
  }

  /**
   * Define a policy, or change one. What it does not name is as in the defaults of now; what is longer than {@link LONGEST_MS} is cut to it.
   * @param name 1 to {@link POLICY_NAME_BYTES} bytes
   * @param scope what it is for, as {@link scopeOf} tells it again: any number from 0 to {@link LONGEST_MS}
   * @returns its number
   * @throws RangeError for names and values that there are not, or when there are too many policies
   */
  define(name: string, values: TimeOutValues, scope = 0): number {
    const bytes = new TextEncoder().encode(name);
    if (bytes.length === 0 || bytes.length > POLICY_NAME_BYTES || bytes.includes(0)) {
      throw new RangeError(
        `the name of a time-out policy has 1 to ${POLICY_NAME_BYTES} bytes, none of them 0: "${name}"`,
      );
    }
    check(values);
    let policy = this.#numbers.get(name);
    if (policy === undefined) {
      policy = this.#free();
      if (policy === 0) throw new RangeError(`there are ${POLICIES - 1} time-out policies already`);
    }
    const at = this.#at(policy);
    for (let place = 0; place < TIMEOUTS; place += 1) this.#control[at + place] = this.get(0, place);
    this.#control[at + SCOPE] = scope;
    this.#write(policy, values);
    if (!this.#numbers.has(name)) {
      const words = new Int32Array(NAME_WORDS);
      new Uint8Array(words.buffer).set(bytes);
      this.#control.set(words, at + POLICY_NAME);
      this.#numbers.set(name, policy);
      this.#changes += 1;
    }
    return policy;
  }

  /** Remove a policy. Connections that have it keep its time-outs: its row is used again when the last of them has ended. @returns whether it was there */
  remove(name: string): boolean {
    const policy = this.#numbers.get(name);
    if (policy === undefined) return false;
    const at = this.#at(policy);
    this.#control.fill(0, at + POLICY_NAME, at + POLICY_WORDS);
    if (this.#users[policy] !== 0) this.#control[at + POLICY_NAME] = REMOVED;
    this.#numbers.delete(name);
    this.#changes += 1;
    return true;
  }

  /** Whether a policy of this number is there. */
  has(policy: number): boolean {
    return policy === 0 || (policy < POLICIES && this.#control[this.#at(policy) + POLICY_NAME] !== 0);
  }

  /** A connection has begun (1) or ended (-1) that has the policy. */
  use(policy: number, by: number): void {
    this.#users[policy] += by;
  }

  #at(policy: number): number {
    return ControlWord.POLICIES + policy * POLICY_WORDS;
  }

  #free(): number {
    const control = this.#control;
    for (let policy = 1, at = this.#at(1) + POLICY_NAME; policy < POLICIES; policy += 1, at += POLICY_WORDS) {
      const word = control[at];
      if (word === 0 || (word === REMOVED && this.#users[policy] === 0)) return policy;
    }
    return 0;
  }

  #readName(policy: number): string {
    const at = this.#at(policy) + POLICY_NAME;
    if (this.#control[at] === 0 || this.#control[at] === REMOVED) return '';
    const bytes = new Uint8Array(this.#control.slice(at, at + NAME_WORDS).buffer);
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(bytes.subarray(0, end === -1 ? bytes.length : end));
  }

  #write(policy: number, values: TimeOutValues): void {
    check(values);
    eachTimeOut((protocol, name, place) => {
      const valueMs = values[protocol]?.[name];
      if (valueMs !== undefined) this.#control[this.#at(policy) + place] = Math.min(valueMs, LONGEST_MS);
    });
  }
}

function eachTimeOut(visit: (protocol: string, name: string, place: number, defaultMs: number) => void): void {
  for (const [protocol, states] of Object.entries(SETTINGS)) {
    for (const [name, [place, defaultMs]] of Object.entries(states)) visit(protocol, name, place, defaultMs);
  }
}

function check(values: TimeOutValues): void {
  const table: TimeOutTable = SETTINGS;
  for (const [protocol, states] of Object.entries(values)) {
    for (const [name, valueMs] of Object.entries(states)) {
      if (!Object.hasOwn(table, protocol) || !Object.hasOwn(table[protocol], name)) {
        throw new RangeError(`there is no time-out ${protocol}.${name}`);
      }
      if (!Number.isInteger(valueMs) || valueMs < 0) {
        throw new RangeError(`a time-out is a whole number of milliseconds, not ${protocol}.${name} = ${valueMs}`);
      }
    }
  }
}

/** The place of the time-out that says how long packets of one direction alone keep a connection of a protocol without states. */
export function unrepliedTimeOut(protocol: number, isIpv6: boolean): number {
  if (protocol === IpProtocol.UDP) return TimeOut.UDP_UNREPLIED;
  if (protocol === IpProtocol.ICMPV4 && !isIpv6) return TimeOut.ICMP;
  if (protocol === IpProtocol.ICMPV6 && isIpv6) return TimeOut.ICMPV6;
  return protocol === IpProtocol.GRE ? TimeOut.GRE_UNREPLIED : TimeOut.GENERIC;
}

/** The same once there was an answer. */
export function repliedTimeOut(protocol: number, isIpv6: boolean): number {
  if (protocol === IpProtocol.UDP) return TimeOut.UDP_REPLIED;
  return protocol === IpProtocol.GRE ? TimeOut.GRE_REPLIED : unrepliedTimeOut(protocol, isIpv6);
}
