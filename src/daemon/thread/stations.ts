/**
 * Who is behind a port: the MAC addresses that may be sources where spoofing is not allowed. The interface that Millrace holds is its own end of the
 * cable; the host at the other end has another address.
 */
import { SystemError, withRouteClient } from '../../host/index.ts';
import { type Adapter, formatMac } from '../../net/index.ts';
import type { Port } from '../config/model.ts';
import type { Stations } from '../config/policies.ts';
import { isDevice } from './adapters.ts';

/** What was found; with a sentence about why nobody was. */
export interface FoundStations extends Stations {
  readonly unknown: string | null;
}

/** What to do when nobody is known. */
export const STATIONS_HINT =
  'name the address with `mac` (mac=ADDRESS), or let the first one that sends be it (mac=learn)';

/** Whether a port's policies ask who sends. */
function isChecked(config: Port): boolean {
  return config.security !== undefined && config.security.allowMacSpoofing !== true;
}

/**
 * Look who is behind a port.
 * @param adapter null while its device is missing
 * @returns null where it does not count
 */
export function stationsOf(config: Port, adapter: Adapter | null): FoundStations | null {
  if (!isChecked(config)) return null;
  if (config.kind === 'tap') return ofTap(config.mac, adapter);
  const { mac = 'auto' } = config;
  if (mac === 'learn') return { addresses: [], learn: true, unknown: null };
  if (mac !== 'auto') return found([mac].flat());
  if (config.kind !== 'netdev') return nobody(`nothing tells who is behind a ${config.kind} port`);
  return adapter !== null && isDevice(adapter) ? atOtherEnd(adapter.interfaceName) : found([]);
}

function found(addresses: readonly string[]): FoundStations {
  return { addresses, learn: false, unknown: null };
}

function nobody(why: string): FoundStations {
  return { addresses: [], learn: false, unknown: why };
}

/** What the kernel sends through a TAP has the TAP's address. */
function ofTap(mac: string | string[] | undefined, adapter: Adapter | null): FoundStations {
  const [own, ...others] = mac === undefined ? [] : [mac].flat();
  const address = adapter === null ? own : formatMac(adapter.macAddress, 0);
  return found(address === undefined ? [] : [address, ...others]);
}

function atOtherEnd(name: string): FoundStations {
  try {
    return withRouteClient((client) => {
      const link = client.findLink(name);
      if (link === null) return found([]);
      const peer = client.peerOf(link);
      if (peer?.macAddress?.length === 6) return found([formatMac(peer.macAddress, 0)]);
      return nobody(
        link.info?.kind === 'tun'
          ? `${name} is a TAP, and what address a guest behind it has cannot be seen`
          : `what is behind ${name} cannot be seen`,
      );
    });
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return nobody(`the other end of ${name} is where it cannot be seen (${error.message})`);
  }
}

/** Whether two looks have found the same. */
export function sameStations(a: FoundStations | null, b: FoundStations | null): boolean {
  if (a === null || b === null) return a === b;
  return a.learn === b.learn && a.unknown === b.unknown && a.addresses.join() === b.addresses.join();
}
