/**
 * Network interfaces as far as attaching needs them: name to index, what the driver can do, counters, generic receive offload, transmit checksums.
 * All in the network namespace of the calling thread. Neighbours: link/ attaches, tools/ checks the way for its frames.
 */
import { bindLibc, ioctl, NativeBlock, Socket, SystemError, socket } from '../../host/sys/index.ts';
import { getLink, type Link, parseLink } from '../../netlink/index.ts';
import { NoInterfaceError } from '../errors.ts';
import { ask } from './netlink.ts';

const nameToIndex = bindLibc<[string]>('unsigned int if_nametoindex(const char *name)');

/**
 * The index of an interface.
 * @param netdev a name, or an index, which is given back unchecked
 * @throws NoInterfaceError
 */
export function netdevIndex(netdev: string | number, doing: string): number {
  if (typeof netdev === 'number') return netdev;
  const index = nameToIndex(netdev);
  if (index === 0) throw new NoInterfaceError(netdev, doing);
  return index;
}

/**
 * An interface as rtnetlink describes it.
 * @throws NoInterfaceError, SystemError
 */
export function readLink(netdev: string | number, doing: string): Link {
  try {
    const [message] = ask(getLink(netdev));
    if (message !== undefined) return parseLink(message);
  } catch (error) {
    if (!(error instanceof SystemError) || (error.code !== 'ENODEV' && error.code !== 'EINVAL')) throw error;
  }
  throw new NoInterfaceError(`${netdev}`, doing);
}

/** struct ifreq: 16 bytes of name, then a pointer. struct ethtool_value: command and value. */
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GTXCSUM = 0x16;
const ETHTOOL_GGRO = 0x2b;
const ETHTOOL_SGRO = 0x2c;

/** Opens a socket whose network namespace the ioctl is for. */
function ethtool(name: string, command: number, value: number, doing: string): number {
  const handle = socket(Socket.AF_INET, Socket.DGRAM, 0, doing);
  try {
    const argument = new NativeBlock(8);
    argument.u32[0] = command;
    argument.u32[1] = value;
    const request = new NativeBlock(40);
    request.setString(0, 16, name);
    request.setAddress(16, argument.address);
    ioctl(handle.number, SIOCETHTOOL, request, doing);
    return argument.u32[1];
  } finally {
    handle.close();
  }
}

/** Is generic receive offload on? @throws SystemError */
export function groOf(name: string): boolean {
  return ethtool(name, ETHTOOL_GGRO, 0, `ask ${name} about GRO`) !== 0;
}

/** Does it take frames whose checksums are still to be completed (any of the features `tx-checksum-*`)? @throws SystemError */
export function takesPartialChecksums(name: string): boolean {
  return ethtool(name, ETHTOOL_GTXCSUM, 0, `ask ${name} about transmit checksums`) !== 0;
}

/** Turn generic receive offload on or off. @throws SystemError */
export function setGro(name: string, on: boolean): void {
  ethtool(name, ETHTOOL_SGRO, on ? 1 : 0, `turn GRO of ${name} ${on ? 'on' : 'off'}`);
}
