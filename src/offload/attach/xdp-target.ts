/**
 * Which interfaces XDP programs can send to. Attaching XDP to a port says nothing about sending to it:
 *
 * - A driver says so by a flag (NETDEV_XDP_ACT_NDO_XMIT, Linux 6.3). TAPs and most network cards have it, many cards only while an XDP program
 *   is attached to themselves: so ask after attaching.
 * - A veth takes frames only while its *peer* receives by NAPI: GRO on, or an XDP program. GRO or XDP on the port itself does not help; it helps
 *   those who send to the peer. GRO on the peer is the better means: skbs go on as before, and nothing is turned off, while an XDP program takes
 *   segmentation offload (TSO) away from the other end, so that TCP super-packets end. The peer mostly sits in a container's namespace, which
 *   root can enter.
 * - The flag stays on while the peer is down; frames are dropped then, as on any link that is down.
 *
 * Neighbours: hook.ts attaches programs; bpf/ finds the peer.
 */
import { undoTransmission, xdpTransmission } from '../../bpf/index.ts';

/** Whether XDP programs can send to a port; if not, why, and flows towards it stay at tc. */
export type XdpTarget =
  | {
      readonly possible: true;
      /** Undoes what was arranged at the peer; undefined when nothing had to be. It throws SystemError when the peer cannot be reached any more. */
      readonly undo: (() => void) | undefined;
    }
  | {
      readonly possible: false;
      readonly reason: string;
      /** Whether all that is missing is GRO at a peer that can be reached. */
      readonly lacksGro: boolean;
    };

/**
 * Decide whether a port can be sent to by XDP.
 * @param netdev name or index, in the calling thread's network namespace
 * @param arrange turn GRO on at a veth's peer where that is missing. For a caller that dies {@link undoXdpTarget} undoes it: note beforehand that it may have to
 * @throws NoInterfaceError, SystemError
 */
export function xdpTarget(netdev: string | number, arrange: boolean): XdpTarget {
  const answer = xdpTransmission(netdev);
  if (answer.possible) return { possible: true, undo: undefined };
  const lacksGro = answer.arrange !== undefined;
  if (!arrange || answer.arrange === undefined) return { possible: false, reason: answer.reason, lacksGro };
  let undo: () => void;
  try {
    undo = answer.arrange();
  } catch (error) {
    const reason = `${answer.reason}; ${error instanceof Error ? error.message : error}`;
    return { possible: false, reason, lacksGro };
  }
  const again = xdpTransmission(netdev);
  if (again.possible) return { possible: true, undo };
  undo();
  return { possible: false, reason: again.reason, lacksGro: again.arrange !== undefined };
}

/**
 * Undo what a former process has arranged for a port with {@link xdpTarget}. A port or a peer that is gone is no error.
 * @param ifindex of the port, in the calling thread's network namespace
 */
export function undoXdpTarget(ifindex: number): void {
  undoTransmission(ifindex);
}
