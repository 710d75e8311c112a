/** What Open vSwitch calls ports: the numbers in keys and outputs of megaflows, which ovs-vswitchd gives. They say nothing to the switch. */
import { type KeyPort, type KeyPortOf, toKeyPort } from '../../net/index.ts';
import { PORTS_MAXIMUM } from './abi.ts';
import { Errno, OvsError } from './errors.ts';

/** A port of a datapath: 0 to 65,534. */
export type OvsPort = KeyPortOf<'Open vSwitch'>;

/** Number of the port that has the datapath's own name. */
export const LOCAL_PORT = asOvsPort(toKeyPort(0));

/** In the place of a port in the key of a packet that came in by none. */
export const NO_PORT = asOvsPort(toKeyPort(PORTS_MAXIMUM));

/** A number that a program names a port by. @throws OvsError EFBIG for one that no port can have */
export function toOvsPort(value: number): OvsPort {
  if (value >= PORTS_MAXIMUM) throw new OvsError(Errno.EFBIG, `port ${value}`);
  return asOvsPort(toKeyPort(value));
}

/** A port of a key, or of an output, of which it is known that its table is one of megaflows. */
export function asOvsPort(port: KeyPort): OvsPort {
  return port as OvsPort;
}
