/**
 * A ping with VLAN tags, made of frames: for hosts whose kernel has no VLAN interfaces. It speaks ARP and ICMP through a packet
 * socket beside the kernel's own stack, which passes over tagged frames, and sees the tags that really come back.
 */

import { NetworkNamespace, openPacketSocket, type PacketSocket } from '../host/index.ts';
import {
  Arp,
  ArpOperation,
  Batch,
  composeFrame,
  Ethernet,
  EtherType,
  formatMac,
  type HeaderLayer,
  header,
  Icmpv4,
  IpProtocol,
  Ipv4,
  Ipv4View,
  outerVlanId,
  type Packet,
  PacketPool,
  TagAction,
  VlanTag,
} from '../net/index.ts';

/** Who pings whom. */
export interface TaggedPing {
  /** Network namespace and device to send from. */
  namespace: string;
  device: string;
  vlanId: number;
  /** IPv4 addresses; the source need not be one of the kernel's. */
  source: string;
  destination: string;
}

const REPLY_TIMEOUT_MS = 2_000;
const TAG_OFFSET = 18;

/**
 * Resolve the destination and ping it once, in the VLAN.
 * @returns the round-trip time of the echo in milliseconds
 * @throws Error saying which answer did not come; SystemError when the socket cannot be opened
 */
export async function taggedPing(ping: TaggedPing): Promise<number> {
  const namespace = NetworkNamespace.byName(ping.namespace);
  let socket: PacketSocket;
  try {
    socket = namespace.run(() => openPacketSocket({ interfaceName: ping.device, receiveSlots: 15, isolate: false }));
  } finally {
    namespace.close();
  }
  try {
    return await exchange(socket, ping);
  } finally {
    socket.close();
  }
}

async function exchange(socket: PacketSocket, ping: TaggedPing): Promise<number> {
  const own = formatMac(socket.macAddress);
  const tagged = (destination: string, etherType: number): HeaderLayer[] => [
    header(Ethernet, { destination, source: own, etherType: EtherType.VLAN }),
    header(VlanTag, { priority: 0, dropEligible: false, vlanId: ping.vlanId, etherType }),
  ];

  const question = {
    senderMac: own,
    senderIp: ping.source,
    targetMac: '00:00:00:00:00:00',
    targetIp: ping.destination,
  };
  send(
    socket,
    composeFrame([
      ...tagged('ff:ff:ff:ff:ff:ff', EtherType.ARP),
      header(Arp, { operation: ArpOperation.REQUEST, ...question }),
    ]),
  );
  const answer = await receive(socket, ping.vlanId, (frame) => {
    if (((frame[16] << 8) | frame[17]) !== EtherType.ARP) return null;
    const arp = Arp.parse(frame, TAG_OFFSET);
    return arp.operation === ArpOperation.REPLY && arp.senderIp === ping.destination ? arp : null;
  });
  if (answer === null) throw new Error(`no tagged ARP reply from ${ping.destination}`);

  const start = performance.now();
  const ipv4 = { dscp: 0, ecn: 0, payloadLength: 0, identification: 1, dontFragment: true, moreFragments: false };
  send(
    socket,
    composeFrame(
      [
        ...tagged(answer.senderMac, EtherType.IPV4),
        header(Ipv4, {
          ...ipv4,
          ...{ fragmentOffset: 0, timeToLive: 64, protocol: IpProtocol.ICMPV4, options: [] },
          ...{ source: ping.source, destination: ping.destination },
        }),
        header(Icmpv4, { kind: 'echo-request', code: 0, identifier: 77, sequence: 1 }),
      ],
      new Uint8Array(56),
    ),
  );
  const ip = new Ipv4View();
  const reply = await receive(socket, ping.vlanId, (frame) => {
    if (((frame[16] << 8) | frame[17]) !== EtherType.IPV4) return null;
    if (!ip.over(frame, TAG_OFFSET, frame.length) || ip.protocol !== IpProtocol.ICMPV4) return null;
    const icmp = Icmpv4.parse(frame, TAG_OFFSET + 20);
    return icmp.kind === 'echo-reply' && icmp.identifier === 77 ? icmp : null;
  });
  if (reply === null) throw new Error(`no tagged echo reply from ${ping.destination}`);
  return performance.now() - start;
}

function send(socket: PacketSocket, frame: Uint8Array): void {
  const packet = new PacketPool({ packets: 1, bufferBytes: 2_048 }).allocate();
  if (packet === null) throw new Error('a new pool has no packet');
  packet.length = frame.length;
  packet.bytes.set(frame, packet.offset);
  socket.transmit(packet, TagAction.KEEP);
  socket.flush();
}

/** The first frame of the VLAN that the function accepts, as what it makes of it; null when none comes in time. */
async function receive<T>(
  socket: PacketSocket,
  vlanId: number,
  accept: (frame: Uint8Array) => T | null,
): Promise<T | null> {
  const batch = new Batch();
  const end = performance.now() + REPLY_TIMEOUT_MS;
  while (performance.now() < end) {
    let found: T | null = null;
    socket.receive(batch, 64);
    for (let i = 0; i < batch.count; i += 1) {
      const packet: Packet = batch.packets[i];
      if (found === null && outerVlanId(packet) === vlanId) found = accept(packet.frame());
    }
    batch.releaseAll();
    if (found !== null) return found;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return null;
}
