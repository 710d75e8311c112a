/**
 * The connections of a switch's packets, for rules that go by them. A packet is tracked once, when it comes in, or where it is to leave when only that port wants it: what is known
 * of its connection stays in its context, and in the keys of flows. A connection that a packet begins is kept when the packet goes out, behind all that could have refused it.
 */
import {
  ConnectionAction,
  ConnectionPreview,
  ConnectionState,
  Connections,
  connectionsOf,
  Refusal,
  Tracked,
  Untracked,
} from '../../connections/index.ts';
import { connectionWord, ICMPV6_APART, SWITCH_ZONE } from '../../decide/index.ts';
import { EtherType, HeaderOffsets, IpProtocol, type Packet } from '../../net/index.ts';
import type { HostServices } from '../extension.ts';
import type { ForwardingContext } from './context.ts';

/** As openvswitch.ko has it, and so programs: what is out of a window is not called invalid. */
const COMMON = { zone: SWITCH_ZONE, liberal: true } as const;
const LOOK = new ConnectionAction(COMMON);
const KEEP = new ConnectionAction({ ...COMMON, commit: true });
const KEEP_FTP = new ConnectionAction({ ...COMMON, commit: true, helper: 'ftp' });
const KEEP_TFTP = new ConnectionAction({ ...COMMON, commit: true, helper: 'tftp' });

const FTP_PORT = 21;
const TFTP_PORT = 69;

/** The bit of a connection word that says that the packet begins a connection. */
export const BEGINS = ConnectionState.NEW << 24;

export class PacketConnections {
  readonly #connections: Connections;
  readonly #headers = new HeaderOffsets();
  readonly #tracked = new Tracked();

  /** @param connections where they are kept */
  constructor(connections: Connections) {
    this.#connections = connections;
  }

  /** Track a packet: its context says what is known of its connection. What is not IP has none. */
  track(packet: Packet, context: ForwardingContext): void {
    const { etherType } = context;
    if (etherType !== EtherType.IPV4 && etherType !== EtherType.IPV6) return;
    const headers = this.#headers;
    const tracked = this.#tracked;
    headers.parse(packet);
    tracked.clear();
    this.#connections.used();
    const refusal = this.#connections.tracker.track(packet, headers, LOOK, tracked, context.sourcePortId);
    let { state } = tracked;
    const isApart =
      tracked.reason === Untracked.ICMP_TYPE && headers.ipVersion === 6 && ICMPV6_APART.has(headers.icmpType);
    if (refusal !== Refusal.NONE) state = ConnectionState.TRACKED | ConnectionState.INVALID;
    else if (isApart) state = ConnectionState.TRACKED;
    context.connection = connectionWord(state);
  }

  /**
   * Keep the connection that a packet begins. It has one that can be kept: {@link BEGINS}.
   * @returns false when there is no room for it: then the packet must not go on
   */
  keep(packet: Packet, context: ForwardingContext): boolean {
    const headers = this.#headers;
    const tracked = this.#tracked;
    headers.parse(packet);
    tracked.clear();
    tracked.state = context.connection >>> 24;
    tracked.zone = SWITCH_ZONE;
    const action = actionFor(headers);
    return this.#connections.tracker.track(packet, headers, action, tracked, context.sourcePortId) === Refusal.NONE;
  }

  /** A burst of packets is through. */
  settle(): void {
    this.#connections.settle();
  }

  /** The same on copies of connections, so that nothing happens to them. */
  preview(): PacketConnections {
    return new PacketConnections(new ConnectionPreview(this.#connections, () => {}));
  }
}

/** Of FTP and TFTP what announces other connections is read. */
function actionFor({ ipProtocol, destinationPort }: HeaderOffsets): ConnectionAction {
  if (ipProtocol === IpProtocol.TCP && destinationPort === FTP_PORT) return KEEP_FTP;
  if (ipProtocol === IpProtocol.UDP && destinationPort === TFTP_PORT) return KEEP_TFTP;
  return KEEP;
}

/** Those of the switch's surroundings, or where these have none, some of its own. */
export function packetConnections(host: HostServices): PacketConnections {
  return new PacketConnections(connectionsOf(host.services) ?? new Connections({ nowMs: () => host.nowMs() }));
}
