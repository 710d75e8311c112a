/**
 * Access control of a port: rules on MAC and IP addresses, protocol and ports, compiled to integers and tried in order of
 * weight. Part of the built-in ingress and egress policies.
 */
import { Fragment, type HeaderOffsets, type Packet, parseIpv4Into, parseIpv6Into, parseMac } from '../../net/index.ts';
import { SwitchError } from '../errors.ts';
import type { AclRule } from '../properties.ts';
import { messageOf } from '../thrown.ts';

/** What a table says about a packet. */
export const AclVerdict = { NO_RULE: 0, ALLOW: 1, DENY: 2 } as const;

/** An address range. */
export interface IpPrefix {
  readonly bytes: Uint8Array;
  readonly prefixBits: number;
}

class CompiledRule {
  readonly action: AclRule['action'];
  readonly localMac: Uint8Array | null;
  readonly remoteMac: Uint8Array | null;
  readonly localIp: IpPrefix | null;
  readonly remoteIp: IpPrefix | null;
  readonly protocol: number;
  readonly localPort: number;
  readonly remotePort: number;
  readonly needsIp: boolean;
  hits = 0;
  hitBytes = 0;

  constructor(rule: AclRule) {
    this.action = rule.action;
    this.localMac = rule.localMac === undefined ? null : parseMac(rule.localMac);
    this.remoteMac = rule.remoteMac === undefined ? null : parseMac(rule.remoteMac);
    this.localIp = rule.localIp === undefined ? null : parseIpPrefix(rule.localIp);
    this.remoteIp = rule.remoteIp === undefined ? null : parseIpPrefix(rule.remoteIp);
    this.protocol = rule.protocol ?? -1;
    this.localPort = rule.localPort ?? -1;
    this.remotePort = rule.remotePort ?? -1;
    this.needsIp =
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
    for (let i = 0; i < rules.length; i += 1) {
      const rule = rules[i];
      if (!matches(rule, packet, headers, this.#inbound)) continue;
      if (commit) {
        rule.hits += 1;
        rule.hitBytes += packet.length;
      }
      if (rule.action === 'meter') continue;
      return rule.action === 'allow' ? AclVerdict.ALLOW : AclVerdict.DENY;
    }
    return AclVerdict.NO_RULE;
  }

  /** The rules that {@link verdict} would count for a packet, and whether it is denied. */
  hitsOf(packet: Packet, headers: HeaderOffsets): { readonly hit: readonly AclHits[]; readonly isDenied: boolean } {
    const hit: CompiledRule[] = [];
    for (const rule of this.#rules) {
      if (!matches(rule, packet, headers, this.#inbound)) continue;
      hit.push(rule);
      if (rule.action !== 'meter') return { hit, isDenied: rule.action === 'deny' };
    }
    return { hit, isDenied: false };
  }

  /** Whether any rule looks behind the Ethernet header. */
  get looksInside(): boolean {
    return this.#rules.some((rule) => rule.needsIp);
  }

  /** Whether any rule looks at IP addresses. */
  get looksAtAddresses(): boolean {
    return this.#rules.some((rule) => rule.localIp !== null || rule.remoteIp !== null);
  }

  /** Hits and bytes of each rule, in the order they are tried. */
  hits(): { readonly packets: number; readonly bytes: number }[] {
    return this.#rules.map((rule) => ({ packets: rule.hits, bytes: rule.hitBytes }));
  }
}

function matches(rule: CompiledRule, packet: Packet, headers: HeaderOffsets, inbound: boolean): boolean {
  const bytes = packet.bytes;
  const sourceMac = packet.offset + 6;
  const destinationMac = packet.offset;
  if (rule.localMac !== null && !macEquals(bytes, inbound ? sourceMac : destinationMac, rule.localMac)) return false;
  if (rule.remoteMac !== null && !macEquals(bytes, inbound ? destinationMac : sourceMac, rule.remoteMac)) return false;
  if (!rule.needsIp) return true;
  if (headers.ipVersion === 0) return false;
  if (rule.protocol !== -1 && rule.protocol !== headers.ipProtocol) return false;
  const source = packet.offset + headers.l3Offset + (headers.ipVersion === 4 ? 12 : 8);
  const destination = source + (headers.ipVersion === 4 ? 4 : 16);
  if (rule.localIp !== null) {
    if (!prefixMatches(bytes, inbound ? source : destination, headers.ipVersion, rule.localIp)) return false;
  }
  if (rule.remoteIp !== null) {
    if (!prefixMatches(bytes, inbound ? destination : source, headers.ipVersion, rule.remoteIp)) return false;
  }
  if (rule.localPort === -1 && rule.remotePort === -1) return true;
  if (headers.fragment === Fragment.LATER || headers.payloadOffset === -1) return false;
  const localPort = inbound ? headers.sourcePort : headers.destinationPort;
  const remotePort = inbound ? headers.destinationPort : headers.sourcePort;
  if (rule.localPort !== -1 && rule.localPort !== localPort) return false;
  return rule.remotePort === -1 || rule.remotePort === remotePort;
}

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
  return { bytes, prefixBits };
}
