/**
 * Will frames sent by XDP leave an interface? A driver says so; a veth takes them only while its peer receives by NAPI, that is, has an XDP
 * program or generic receive offload on. Here that is found out, told, and on request arranged and undone.
 * Neighbours: tools/generate.ts asks before it sends; sys/netdev.ts does the ioctl.
 */
import { readdirSync, statSync } from 'node:fs';
import { CloneFlag, type FileDescriptor, Open, open, SystemError, setns } from '../../host/sys/index.ts';
import {
  fields,
  getFamily,
  type Link,
  type Message,
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

/** Bits of NETDEV_A_DEV_XDP_FEATURES (linux/netdev.h, Linux 6.3). */
const XDP_FEATURE_NDO_XMIT = 4n;
const NETDEV_CMD_DEV_GET = 1;
const netdevPolicy = policy({ ifindex: [1, fields.u32()], xdpFeatures: [3, fields.u64()] });

/**
 * The XDP features of an interface.
 * @returns undefined on a kernel that does not tell (before Linux 6.3)
 */
export function xdpFeatures(ifindex: number): bigint | undefined {
  let family: number | undefined;
  try {
    const [message] = ask(getFamily('netdev'), NetlinkProtocol.GENERIC);
    family = message === undefined ? undefined : parseFamily(message).family.id;
  } catch {
    return undefined;
  }
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
  const where = peer.namespace === undefined ? '' : ` in namespace ${peer.namespace}`;
  const reason = `${name} is a veth whose peer (${peer.name}${where}) has neither GRO nor an XDP program`;
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
  const where = peer.namespace === undefined ? '' : `ip netns exec ${peer.namespace} `;
  return `${start}. Run "${where}ethtool -K ${peer.name} gro on", or "${where}millrace receive --netdev ${peer.name}", or let it be done for the time of the run with --prepare`;
}

/** The other end of a veth. */
interface Peer {
  readonly name: string;
  /** Name or path of its namespace; undefined for this one. */
  readonly namespace: string | undefined;
  /** Do something in its namespace. */
  within<T>(action: () => T): T;
}

function locatePeer(link: Link): Peer | undefined {
  const { linkedIndex, linkNamespaceId } = link;
  if (linkedIndex === undefined) return undefined;
  if (linkNamespaceId === undefined) {
    return { name: nameOf(linkedIndex), namespace: undefined, within: (action) => action() };
  }
  for (const path of namespacePaths()) {
    const id = namespaceId(path);
    if (id !== linkNamespaceId) continue;
    const within = <T>(action: () => T): T => inNamespace(path, action);
    try {
      return { name: within(() => nameOf(linkedIndex)), namespace: path.replace(/^\/run\/netns\//, ''), within };
    } catch (error) {
      // Without the privilege to enter it, the peer is as good as not found.
      if (error instanceof SystemError && error.code === 'EPERM') return undefined;
      throw error;
    }
  }
  return undefined;
}

function nameOf(index: number): string {
  return readLink(index, 'find the peer of a veth').name ?? `${index}`;
}

/** Named namespaces first, then those of running processes, each once. */
function* namespacePaths(): Generator<string> {
  const seen = new Set<number>();
  const candidates = [
    ...list('/run/netns').map((name) => `/run/netns/${name}`),
    ...list('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => `/proc/${pid}/ns/net`),
  ];
  for (const path of candidates) {
    try {
      const { ino } = statSync(path);
      if (seen.has(ino)) continue;
      seen.add(ino);
    } catch {
      continue;
    }
    yield path;
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

const RTM_GETNSID = 90;
const namespacePolicy = policy({ id: [1, fields.s32()], descriptor: [3, fields.u32()] });

/** The id by which this namespace knows another (RTM_GETNSID); undefined where it cannot be asked. */
function namespaceId(path: string): number | undefined {
  let handle: FileDescriptor | undefined;
  try {
    handle = open(path, Open.RDONLY);
    const descriptor = handle.number;
    const [message] = ask({
      type: RTM_GETNSID,
      flags: 0,
      doing: `ask for the id of ${path}`,
      write(writer) {
        writer.raw(new Uint8Array(4));
        namespacePolicy.encode(writer, { descriptor });
      },
    });
    return message === undefined ? undefined : idIn(message);
  } catch {
    return undefined;
  } finally {
    handle?.close();
  }
}

function idIn(message: Message): number | undefined {
  const RTGENMSG_END = 20;
  return namespacePolicy.decode(message.bytes, RTGENMSG_END).id;
}

function inNamespace<T>(path: string, action: () => T): T {
  const home = open('/proc/thread-self/ns/net', Open.RDONLY);
  try {
    const there = open(path, Open.RDONLY);
    try {
      setns(there.number, CloneFlag.NEWNET, `enter ${path}`);
    } finally {
      there.close();
    }
    try {
      return action();
    } finally {
      setns(home.number, CloneFlag.NEWNET, 'return to the own network namespace');
    }
  } finally {
    home.close();
  }
}
