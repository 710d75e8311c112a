/**
 * OVS-port-names: the name under which Open vSwitch knows a port. ovs-vswitchd asks the kernel about the interface of that name,
 * so the interface behind the port gets it as an alternative name, and loses it with the port.
 */
import { SystemError, withRouteClient } from '../../host/index.ts';
import { addAlternativeName, removeAlternativeName } from '../../netlink/index.ts';
import { Failure } from '../rpc/failure.ts';
import type { DatapathPort } from './port.ts';

/**
 * Give the interface behind a port this name, instead of the one that it was given before. A port without an interface in this
 * network namespace is known by its name all the same, to programs that do not ask the kernel.
 * @throws Failure when the name is taken
 */
export function renameForOvs(port: DatapathPort, name: string | undefined): void {
  const { config, givenName } = port;
  if (givenName === (name ?? null)) return;
  if (config.device === '' || (config.kind === 'tap' && config.netns !== undefined)) return;
  withRouteClient((client) => {
    const link = client.findLink(config.device);
    if (link === null) {
      port.givenName = null;
      return;
    }
    if (name !== undefined && name !== config.device && givenName !== name) {
      const other = client.findLink(name);
      if (other !== null) {
        const hint = 'choose another: the names of interfaces are unique';
        throw new Failure('exists', `there is an interface ${name} already`, hint);
      }
      client.request(addAlternativeName(link.index, name));
    }
    if (givenName !== null) {
      try {
        client.request(removeAlternativeName(link.index, givenName));
      } catch (error) {
        // Somebody else has taken it away.
        if (!(error instanceof SystemError)) throw error;
      }
    }
    port.givenName = name === undefined || name === config.device ? null : name;
  });
}

/** The interface is behind the port no more: it is gone, or has another name now. */
export function forgetOvsName(port: DatapathPort): void {
  const { givenName } = port;
  port.givenName = null;
  if (givenName === null) return;
  try {
    withRouteClient((client) => {
      const link = client.findLink(givenName);
      if (link !== null) client.request(removeAlternativeName(link.index, givenName));
    });
  } catch (error) {
    // It went meanwhile.
    if (!(error instanceof SystemError)) throw error;
  }
}
