/** A packet that is decided about, as rules of access control ask about it: acl.ts says what they match. Each question marks what its answer needs. */
import type { ConnectionStateName, PacketView } from '../../decide/index.ts';
import type { AclSubject, IpPrefix } from './acl.ts';

export class DecidedPacket implements AclSubject {
  readonly #packet: PacketView;

  /** @param packet that can be judged: see decide-headers.ts */
  constructor(packet: PacketView) {
    this.#packet = packet;
  }

  macIs(isSource: boolean, mac: Uint8Array): boolean {
    const { ethernet } = this.#packet;
    return (isSource ? ethernet.source : ethernet.destination).is(mac);
  }

  isIp(): boolean {
    return this.#packet.ip !== null;
  }

  protocolIs(protocol: number): boolean {
    return this.#packet.ip?.protocol === protocol;
  }

  addressIn(isSource: boolean, prefix: IpPrefix): boolean {
    const ip = prefix.bytes.length === 4 ? this.#packet.ipv4 : this.#packet.ipv6;
    return ip !== null && (isSource ? ip.source : ip.destination).within(prefix.text);
  }

  hasTransport(): boolean {
    const { ip, tcp, udp, sctp, icmp, icmpv6 } = this.#packet;
    return ip?.fragment !== 'later' && (tcp ?? udp ?? sctp ?? icmp ?? icmpv6) !== null;
  }

  connectionState(): ConnectionStateName | null {
    return this.#packet.connection?.state ?? null;
  }

  portIs(isSource: boolean, port: number): boolean {
    const ports = this.#packet.tcp ?? this.#packet.udp ?? this.#packet.sctp;
    // ICMP has none.
    if (ports === null) return port === 0;
    return (isSource ? ports.source : ports.destination).is(port);
  }
}
