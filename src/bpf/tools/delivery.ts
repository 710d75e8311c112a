/**
 * Will frames sent by XDP leave an interface? A driver says so; a veth takes them only while its peer receives by NAPI, that is, has an XDP
 * program or generic receive offload on. Here that is found out, told, and on request arranged and undone.
 * Neighbours: tools/generate.ts asks before it sends; peer.ts finds the other end; reception.ts asks about the way in.
 */
import { SystemError } from '../../host/sys/index.ts';
import {
  fields,
  getFamily,
  type Link,
  type MessageWriter,
  NetlinkProtocol,
  parseFamily,
  parseGenericHeader,
  policy,
  writeGenericHeader,
} from '../../netlink/index.ts';
import { DeliveryError, NoInterfaceError } from '../errors.ts';
import { groOf, readLink, setGro } from '../sys/netdev.ts';
import { ask } from '../sys/netlink.ts';
import { locatePeer, type Peer } from './peer.ts';

/** Bits of NETDEV_A_DEV_XDP_FEATURES (linux/netdev.h, Linux 6.3). */
const XDP_FEATURE_NDO_XMIT = 4n;
const NETDEV_CMD_DEV_GET = 1;
const netdevPolicy = policy({ ifindex: [1, fields.u32()], xdpFeatures: [3, fields.u64()] });

/** The number of the family `netdev`, which is the same until the next boot. */
let netdevFamily: number | undefined;

function askForFamily(): number | undefined {
  try {
    const [message] = ask(getFamily('netdev'), NetlinkProtocol.GENERIC);
    return message === undefined ? undefined : parseFamily(message).family.id;
  } catch {
    return undefined;
  }
}

/**
 * The XDP features of an interface.
 * @returns undefined on a kernel that does not tell (before Linux 6.3)
 */
export function xdpFeatures(ifindex: number): bigint | undefined {
  netdevFamily ??= askForFamily();
  const family = netdevFamily;
  if (family === undefined) return undefined;
  const [reply] = ask(
    {
      type: family,
      flags: 0,
      doing: `ask what interface ${ifindex} can do with XDP`,
      write(writer: MessageWriter) {
        writeGenericHeader(writer, NETDEV_CMD_DEV_GET, 1);
        netdevPolicy.encode(writer, { ifindex });
      },
    },
    NetlinkProtocol.GENERIC,
  );
  if (reply === undefined) return undefined;
  return netdevPolicy.decode(reply.bytes, parseGenericHeader(reply).payloadStart).xdpFeatures;
}

/**
 * Check that frames redirected to an interface will leave it.
 * @param prepare turn GRO on at a veth's peer where that is missing
 * @returns what undoes the preparation
 * @throws DeliveryError, with what to do, where they will not
 */
export function ensureDelivery(netdev: string, prepare: boolean): () => void {
  const link = readLink(netdev, 'send frames');
  if (canTransmit(link)) return () => undefined;
  if (link.info?.kind !== 'veth') {
    throw new DeliveryError(
      `frames cannot be sent through ${netdev}: its driver does not transmit for XDP (ndo_xdp_xmit)`,
    );
  }
  const peer = locatePeer(link);
  if (!prepare || peer === undefined) throw new DeliveryError(adviceFor(netdev, peer));
  return turnOnGro(peer);
}

/** Whether an interface sends frames that XDP programs redirect to it, now. */
export type XdpTransmission =
  | { readonly possible: true }
  | {
      readonly possible: false;
      /** One sentence. */
      readonly reason: string;
      /**
       * Arranges it, where that can be done from here: turns GRO on at a veth's peer, whichever namespace it is in.
       * @returns what undoes it
       * @throws SystemError
       */
      readonly arrange: (() => () => void) | undefined;
    };

/**
 * Ask whether an interface sends frames that XDP programs redirect to it.
 * @throws NoInterfaceError, SystemError
 */
export function xdpTransmission(netdev: string | number): XdpTransmission {
  const link = readLink(netdev, 'ask about XDP');
  if (canTransmit(link)) return { possible: true };
  const name = link.name ?? `${netdev}`;
  if (link.info?.kind !== 'veth') {
    const reason = `the driver of ${name} does not send frames for XDP (ndo_xdp_xmit), or not before a program is attached to it`;
    return { possible: false, reason, arrange: undefined };
  }
  const peer = locatePeer(link);
  if (peer === undefined) {
    const reason = `${name} is a veth whose peer has neither GRO nor an XDP program, and is in a network namespace that cannot be entered from here`;
    return { possible: false, reason, arrange: undefined };
  }
  const reason = `${name} is a veth whose peer has neither GRO nor an XDP program; to have it: ${peer.enter}ethtool -K ${peer.name} gro on`;
  return { possible: false, reason, arrange: () => turnOnGro(peer) };
}

/** Turn GRO off at the peer of a veth, as `arrange` found it. An interface that is gone, or a peer that cannot be reached, is no error. */
export function undoTransmission(netdev: string | number): void {
  try {
    const peer = locatePeer(readLink(netdev, 'ask about XDP'));
    peer?.within(() => setGro(peer.name, false));
  } catch (error) {
    if (!(error instanceof NoInterfaceError || error instanceof SystemError)) throw error;
  }
}

function turnOnGro(peer: Peer): () => void {
  peer.within(() => setGro(peer.name, true));
  return () => peer.within(() => setGro(peer.name, false));
}

function canTransmit(link: Link): boolean {
  const features = xdpFeatures(link.index);
  if (features !== undefined) return (features & XDP_FEATURE_NDO_XMIT) !== 0n;
  if (link.info?.kind !== 'veth') return true;
  const peer = locatePeer(link);
  return (
    peer === undefined || peer.within(() => groOf(peer.name) || readLink(peer.name, 'look at a peer').xdp !== undefined)
  );
}

function adviceFor(netdev: string, peer: Peer | undefined): string {
  const start = `frames cannot be sent through ${netdev}: a veth takes them only while its peer has an XDP program or GRO`;
  if (peer === undefined) {
    return `${start}, and the peer is in a network namespace that cannot be found from here. In that namespace run "ethtool -K <peer> gro on", or "millrace receive --netdev <peer>"`;
  }
  const { enter } = peer;
  return `${start}. Run "${enter}ethtool -K ${peer.name} gro on", or "${enter}millrace receive --netdev ${peer.name}", or let it be done for the time of the run with --prepare`;
}
