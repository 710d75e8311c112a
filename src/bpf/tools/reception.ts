/**
 * Do the frames that an interface hands to an XDP program have whole checksums? The kernel keeps "the checksum is still to be completed" beside a
 * packet, and XDP has no place for it: a frame that came in with that note and is redirected goes out with a checksum that its receiver
 * refuses. Connections then hang while ping works, as the kernel computes ICMP's checksums itself.
 *
 *      a network card            what came over a wire is whole
 *      a veth                    what its other end sends, unless transmit checksums are off there (ethtool -K PEER tx off)
 *      a TAP with virtio headers whoever is behind it says it with each frame
 *      a bond                    as those that belong to it
 *
 * Neighbours: delivery.ts asks about the way out; peer.ts finds a veth's other end.
 */
import { SystemError } from '../../host/sys/index.ts';
import { dumpLinks, type Link, parseLink } from '../../netlink/index.ts';
import { readLink, takesPartialChecksums } from '../sys/netdev.ts';
import { ask } from '../sys/netlink.ts';
import { locatePeer } from './peer.ts';

/** Whether the frames that come to XDP at an interface have whole checksums, now. */
export type XdpReception =
  | { readonly possible: true }
  | {
      readonly possible: false;
      /** One sentence. */
      readonly reason: string;
    };

const WHOLE: XdpReception = { possible: true };

/**
 * Ask whether the frames that an interface hands to an XDP program have whole checksums.
 * @param netdev name or index, in the calling thread's network namespace
 * @throws NoInterfaceError, SystemError
 */
export function xdpReception(netdev: string | number): XdpReception {
  return receptionOf(readLink(netdev, 'ask about checksums'));
}

function receptionOf(link: Link): XdpReception {
  const name = link.name ?? `number ${link.index}`;
  switch (link.info?.kind) {
    case undefined:
      return ofHardware(link, name);
    case 'veth':
      return ofVeth(link, name);
    case 'tun':
      if (link.info.tun?.vnetHeader === 0) return WHOLE;
      return no(`whoever is behind the TAP ${name}, such as a virtual machine, may leave checksums to it`);
    case 'bond': {
      const ports = ask(dumpLinks()).map(parseLink);
      for (const port of ports) {
        const reception = port.masterIndex === link.index ? receptionOf(port) : WHOLE;
        if (!reception.possible) return reception;
      }
      return WHOLE;
    }
    default:
      return no(`frames of ${name} (${link.info?.kind}) may come with checksums that are still to be completed`);
  }
}

function ofHardware({ parentBus }: Link, name: string): XdpReception {
  // Xen's network device takes unfinished checksums from other guests, with XDP too; virtio_net has the host complete them.
  if (parentBus === undefined || parentBus === 'xen')
    return no(`frames of ${name} may come with checksums that are still to be completed`);
  return WHOLE;
}

function ofVeth(link: Link, name: string): XdpReception {
  const peer = locatePeer(link);
  if (peer === undefined) {
    return no(
      `${name} is a veth whose other end is where it cannot be asked from here, and may leave checksums to the device`,
    );
  }
  let partial: boolean;
  try {
    partial = peer.within(() => takesPartialChecksums(peer.name));
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return no(`${name} is a veth whose other end cannot be asked about its checksums: ${error.message}`);
  }
  if (!partial) return WHOLE;
  return no(
    `the other end of the veth ${name} leaves checksums to the device; to have them completed: ${peer.enter}ethtool -K ${peer.name} tx off`,
  );
}

function no(why: string): XdpReception {
  return { possible: false, reason: `XDP would send frames on with unfinished checksums: ${why}` };
}
