/**
 * Who is behind a port: the MAC addresses that may be sources where spoofing is not allowed. The interface that Millrace holds is its own end of the
 * cable; the host at the other end has another address.
 */
import { type RouteClient, SystemError, withRouteClient } from '../../host/index.ts';
import { type Adapter, formatMac } from '../../net/index.ts';
import type { Port } from '../config/model.ts';
import type { Stations } from '../config/policies.ts';
import { Failure } from '../rpc/failure.ts';
import { isDevice } from './adapters.ts';

/** What was found; with a sentence about why nobody was. */
export interface FoundStations extends Stations {
  readonly unknown: string | null;
  /** Index of the interface at the other end, in its namespace; 0 for none. */
  readonly peerIndex: number;
}

/** What to do when nobody is known. */
const STATIONS_HINT = 'name the address with `mac` (mac=ADDRESS), or let the first one that sends be it (mac=learn)';

/** Whether a port's policies ask who sends. */
function isChecked(config: Port): boolean {
  return config.security !== undefined && config.security.allowMacSpoofing !== true;
}

/**
 * Look who is behind a port.
 * @param adapter null while its device is missing
 * @param client to ask with; null for one of its own
 * @returns null where it does not count
 */
export function stationsOf(
  config: Port,
  adapter: Adapter | null,
  client: RouteClient | null = null,
): FoundStations | null {
  if (!isChecked(config)) return null;
  if (config.kind === 'tap') return ofTap(config.mac, adapter);
  const { mac = 'auto' } = config;
  if (mac === 'learn') return { addresses: [], learn: true, unknown: null, peerIndex: 0 };
  if (mac !== 'auto') return found([mac].flat());
  if (config.kind !== 'netdev') return nobody(`nothing tells who is behind a ${config.kind} port`);
  return adapter !== null && isDevice(adapter) ? atOtherEnd(adapter.interfaceName, client) : found([]);
}

function found(addresses: readonly string[], peerIndex = 0): FoundStations {
  return { addresses, learn: false, unknown: null, peerIndex };
}

function nobody(why: string, peerIndex = 0): FoundStations {
  return { addresses: [], learn: false, unknown: why, peerIndex };
}

/** What the kernel sends through a TAP has the TAP's address. */
function ofTap(mac: string | string[] | undefined, adapter: Adapter | null): FoundStations {
  const [own, ...others] = mac === undefined ? [] : [mac].flat();
  const address = adapter === null ? own : formatMac(adapter.macAddress, 0);
  return found(address === undefined ? [] : [address, ...others]);
}

function atOtherEnd(name: string, client: RouteClient | null): FoundStations {
  if (client === null) return withRouteClient((own) => atOtherEnd(name, own));
  let peerIndex = 0;
  try {
    const link = client.findLink(name);
    if (link === null) return found([]);
    peerIndex = link.linkedIndex ?? 0;
    const peer = client.peerOf(link);
    if (peer?.macAddress?.length === 6) return found([formatMac(peer.macAddress, 0)], peerIndex);
    return nobody(
      link.info?.kind === 'tun'
        ? `${name} is a TAP, and what address a guest behind it has cannot be seen`
        : `what is behind ${name} cannot be seen`,
    );
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return nobody(`the other end of ${name} is where it cannot be seen (${error.message})`, peerIndex);
  }
}

/** Who is behind a port. @throws Failure when that counts, and cannot be found out */
export function knownStations(config: Port, adapter: Adapter | null): FoundStations | null {
  const stations = stationsOf(config, adapter);
  const unknown = stations?.unknown ?? null;
  if (unknown === null) return stations;
  const text = `with "security", and without allowMacSpoofing, only who is behind the port may send: ${unknown}`;
  throw new Failure('refused', text, STATIONS_HINT);
}

/** Whether two looks have found the same. */
export function sameStations(a: FoundStations | null, b: FoundStations | null): boolean {
  if (a === null || b === null) return a === b;
  return a.learn === b.learn && a.unknown === b.unknown && a.addresses.join() === b.addresses.join();
}
