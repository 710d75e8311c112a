/**
 * Access control of a port: rules on MAC and IP addresses, protocol and ports, compiled to integers and tried in order of
 * weight. Part of the built-in ingress and egress policies. What a rule matches is said once, for packets and for decisions (decide-acl.ts) alike.
 */
import { type ConnectionStateName, connectionStateOf, FlowCounter } from '../../decide/index.ts';
import { Fragment, HeaderOffsets, Packet, parseIpv4Into, parseIpv6Into, parseMac, Region } from '../../net/index.ts';
import type { AclRule } from '../control/properties.ts';
import { SwitchError } from '../errors.ts';
import { contextOf } from '../path/context.ts';
import { messageOf } from '../thrown.ts';

/** What a table says about a packet. */
export const AclVerdict = { NO_RULE: 0, ALLOW: 1, DENY: 2 } as const;

/** An address range. */
export interface IpPrefix {
  readonly bytes: Uint8Array;
  readonly prefixBits: number;
  /** As it was written. */
  readonly text: string;
}

/** What rules ask about a packet. Source and destination are those of its headers. */
export interface AclSubject {
  macIs(isSource: boolean, mac: Uint8Array): boolean;
  /** IPv4 or IPv6. */
  isIp(): boolean;
  /** Of IP, behind extension headers. */
  protocolIs(protocol: number): boolean;
  /** Of IP. */
  addressIn(isSource: boolean, prefix: IpPrefix): boolean;
  /** Whether it has a transport header that is known here: not a later fragment. */
  hasTransport(): boolean;
  /** What it is to its connection; null when it has none. */
  connectionState(): ConnectionStateName | null;
  /** Of TCP, UDP and SCTP; 0 for ICMP. */
  portIs(isSource: boolean, port: number): boolean;
}

class CompiledRule implements AclHits {
  readonly given: AclRule;
  readonly action: AclRule['action'];
  readonly localMac: Uint8Array | null;
  readonly remoteMac: Uint8Array | null;
  readonly localIp: IpPrefix | null;
  readonly remoteIp: IpPrefix | null;
  readonly protocol: number;
  readonly localPort: number;
  readonly remotePort: number;
  readonly states: ReadonlySet<ConnectionStateName> | null;
  readonly needsIp: boolean;
  hits = 0;
  hitBytes = 0;
  /** Of packets that decisions are for; they are counted elsewhere. */
  readonly counter: FlowCounter = new HitCounter(this);

  constructor(rule: AclRule) {
    this.given = rule;
    this.action = rule.action;
    this.localMac = rule.localMac === undefined ? null : parseMac(rule.localMac);
    this.remoteMac = rule.remoteMac === undefined ? null : parseMac(rule.remoteMac);
    this.localIp = rule.localIp === undefined ? null : parseIpPrefix(rule.localIp);
    this.remoteIp = rule.remoteIp === undefined ? null : parseIpPrefix(rule.remoteIp);
    this.protocol = rule.protocol ?? -1;
    this.localPort = rule.localPort ?? -1;
    this.remotePort = rule.remotePort ?? -1;
    this.states = rule.state === undefined ? null : new Set(rule.state);
    this.needsIp =
      this.states !== null ||
      this.localIp !== null ||
      this.remoteIp !== null ||
      this.protocol !== -1 ||
      this.localPort !== -1 ||
      this.remotePort !== -1;
  }
}

/** The counters of a rule. */
export interface AclHits {
  hits: number;
  hitBytes: number;
}

/** Moves the counters of a rule. */
class HitCounter extends FlowCounter {
  readonly #rule: AclHits;

  constructor(rule: AclHits) {
    super('acl', () => {});
    this.#rule = rule;
  }

  override add(packets: number, bytes: number): void {
    this.#rule.hits += packets;
    this.#rule.hitBytes += bytes;
  }
}

/** The rules of one direction of one port. */
export class AclTable {
  readonly #rules: CompiledRule[];
  readonly #inbound: boolean;

  private constructor(rules: CompiledRule[], inbound: boolean) {
    this.#rules = rules;
    this.#inbound = inbound;
  }

  /**
   * Compile the rules of one direction; null when there are none.
   * @throws SwitchError INVALID naming the rule that does not parse
   */
  static compile(rules: readonly AclRule[], direction: AclRule['direction']): AclTable | null {
    const compiled: { readonly rule: CompiledRule; readonly weight: number }[] = [];
    rules.forEach((rule, index) => {
      if (rule.direction !== direction) return;
      try {
        compiled.push({ rule: new CompiledRule(rule), weight: rule.weight ?? 0 });
      } catch (error) {
        throw new SwitchError('INVALID', `ACL rule ${index}: ${messageOf(error)}`);
      }
    });
    if (compiled.length === 0) return null;
    compiled.sort((a, b) => b.weight - a.weight);
    return new AclTable(
      compiled.map((entry) => entry.rule),
      direction === 'in',
    );
  }

  /**
   * The verdict of the first rule that matches; `meter` rules count and go on.
   * @param headers of this packet, already read
   * @param commit false only looks and counts nothing
   */
  verdict(packet: Packet, headers: HeaderOffsets, commit: boolean): number {
    const rules = this.#rules;
    present.packet = packet;
    present.headers = headers;
    for (let i = 0; i < rules.length; i += 1) {
      const rule = rules[i];
      if (!matches(rule, present, this.#inbound)) continue;
      if (commit) {
        rule.hits += 1;
        rule.hitBytes += packet.length;
      }
      if (rule.action === 'meter') continue;
      return rule.action === 'allow' ? AclVerdict.ALLOW : AclVerdict.DENY;
    }
    return AclVerdict.NO_RULE;
  }

  /**
   * What the table says about a packet that is decided about.
   * @param count is told the counters that packets like it move
   * @returns whether it is denied
   */
  denies(subject: AclSubject, count: (counter: FlowCounter) => void): boolean {
    for (const rule of this.#rules) {
      if (!matches(rule, subject, this.#inbound)) continue;
      count(rule.counter);
      if (rule.action !== 'meter') return rule.action === 'deny';
    }
    return false;
  }

  /** Whether any rule looks behind the Ethernet header. */
  get looksInside(): boolean {
    return this.#rules.some((rule) => rule.needsIp);
  }

  /** Whether any rule goes by connections. */
  get tracks(): boolean {
    return this.#rules.some((rule) => rule.states !== null);
  }

  /** Each rule as it was given, with its hits and their bytes, in the order in which rules are tried. */
  hits(): { readonly rule: AclRule; readonly packets: number; readonly bytes: number }[] {
    return this.#rules.map((rule) => ({ rule: rule.given, packets: rule.hits, bytes: rule.hitBytes }));
  }
}

/** The one description of what a rule matches. */
function matches(rule: CompiledRule, subject: AclSubject, inbound: boolean): boolean {
  if (rule.localMac !== null && !subject.macIs(inbound, rule.localMac)) return false;
  if (rule.remoteMac !== null && !subject.macIs(!inbound, rule.remoteMac)) return false;
  if (!rule.needsIp) return true;
  if (!subject.isIp()) return false;
  if (rule.states !== null && !isIn(rule.states, subject.connectionState())) return false;
  if (rule.protocol !== -1 && !subject.protocolIs(rule.protocol)) return false;
  if (rule.localIp !== null && !subject.addressIn(inbound, rule.localIp)) return false;
  if (rule.remoteIp !== null && !subject.addressIn(!inbound, rule.remoteIp)) return false;
  if (rule.localPort === -1 && rule.remotePort === -1) return true;
  if (!subject.hasTransport()) return false;
  if (rule.localPort !== -1 && !subject.portIs(inbound, rule.localPort)) return false;
  return rule.remotePort === -1 || subject.portIs(!inbound, rule.remotePort);
}

function isIn(states: ReadonlySet<ConnectionStateName>, state: ConnectionStateName | null): boolean {
  return state !== null && states.has(state);
}

/** A packet whose headers have been read. */
class PresentPacket implements AclSubject {
  packet: Packet = NOTHING;
  headers = new HeaderOffsets();

  macIs(isSource: boolean, mac: Uint8Array): boolean {
    const { bytes, offset } = this.packet;
    return macEquals(bytes, isSource ? offset + 6 : offset, mac);
  }

  isIp(): boolean {
    return this.headers.ipVersion !== 0;
  }

  protocolIs(protocol: number): boolean {
    return this.headers.ipProtocol === protocol;
  }

  addressIn(isSource: boolean, prefix: IpPrefix): boolean {
    const { ipVersion, l3Offset } = this.headers;
    const source = this.packet.offset + l3Offset + (ipVersion === 4 ? 12 : 8);
    const at = isSource ? source : source + (ipVersion === 4 ? 4 : 16);
    return prefixMatches(this.packet.bytes, at, ipVersion, prefix);
  }

  hasTransport(): boolean {
    return this.headers.fragment !== Fragment.LATER && this.headers.payloadOffset !== -1;
  }

  connectionState(): ConnectionStateName | null {
    return this.packet.attachment === null ? null : connectionStateOf(contextOf(this.packet).connection);
  }

  portIs(isSource: boolean, port: number): boolean {
    return (isSource ? this.headers.sourcePort : this.headers.destinationPort) === port;
  }
}

/** Stands in until there is a packet. */
const NOTHING = new Packet({ recycle: () => {} }, new Region(new ArrayBuffer(0)), 0);

/** One instance serves all packets: no look outlives its packet. */
const present = new PresentPacket();

function macEquals(bytes: Uint8Array, at: number, mac: Uint8Array): boolean {
  for (let i = 0; i < 6; i += 1) if (bytes[at + i] !== mac[i]) return false;
  return true;
}

/** Whether the address of this IP version at a place lies in a range. */
export function prefixMatches(bytes: Uint8Array, at: number, version: number, prefix: IpPrefix): boolean {
  const wanted = prefix.bytes;
  if (wanted.length !== (version === 4 ? 4 : 16)) return false;
  const whole = prefix.prefixBits >> 3;
  for (let i = 0; i < whole; i += 1) if (bytes[at + i] !== wanted[i]) return false;
  const rest = prefix.prefixBits & 7;
  if (rest === 0) return true;
  const mask = (0xff << (8 - rest)) & 0xff;
  return (bytes[at + whole] & mask) === (wanted[whole] & mask);
}

/** An address or prefix such as `10.0.0.0/8`, `fe80::1` or `2001:db8::/32`. @throws TypeError */
export function parseIpPrefix(text: string): IpPrefix {
  const slash = text.indexOf('/');
  const address = slash === -1 ? text : text.slice(0, slash);
  const bytes = new Uint8Array(address.includes(':') ? 16 : 4);
  const valid = bytes.length === 4 ? parseIpv4Into(address, bytes, 0) : parseIpv6Into(address, bytes, 0);
  const length = slash === -1 ? String(bytes.length * 8) : text.slice(slash + 1);
  const prefixBits = /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (!valid || prefixBits < 0 || prefixBits > bytes.length * 8) {
    throw new TypeError(`"${text}" is not an IP address or prefix such as 10.0.0.0/8 or 2001:db8::/32`);
  }
  return { bytes, prefixBits, text };
}
