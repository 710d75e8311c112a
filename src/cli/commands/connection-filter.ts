/** The options that pick connections, for list and flush of connections.ts. */
import { type Command, Option } from 'commander';
import type { ConnectionFilterParams } from '../../daemon/client.ts';
import { CliError } from '../exit.ts';

export interface FilterOptions {
  zone?: string;
  ip?: '4' | '6';
  protocol?: string;
  source?: string;
  destination?: string;
  address?: string;
  sourcePort?: string;
  destinationPort?: string;
  port?: string;
  state?: string;
  mark?: string;
  nat?: 'source' | 'destination' | 'any' | 'none';
  replied?: boolean;
  unreplied?: boolean;
}

export function withFilter(command: Command): Command {
  return command
    .option('-z, --zone <zone>', 'of this zone')
    .addOption(new Option('--ip <version>', 'of this version of IP').choices(['4', '6']))
    .option('-p, --protocol <protocol>', 'tcp, udp, icmp, icmpv6, sctp, ..., or a number')
    .option('-s, --source <address>', 'begun from this address or prefix')
    .option('-d, --destination <address>', 'begun to this address or prefix')
    .option('-a, --address <address>', 'with this address or prefix at any end, before or behind translation')
    .option('--source-port <port>', 'begun from this port')
    .option('--destination-port <port>', 'begun to this port')
    .option('--port <port>', 'with this port at any end, before or behind translation')
    .option('--state <state>', 'TCP and SCTP: in this state, such as ESTABLISHED')
    .option('--mark <value[/mask]>', 'with this mark')
    .addOption(
      new Option('--nat <kind>', 'translated in this way, or not').choices(['source', 'destination', 'any', 'none']),
    )
    .option('--replied', 'that were answered')
    .option('--unreplied', 'that nobody has answered');
}

function numberOf(text: string, maximum: number, what: string, hint = `give a number from 0 to ${maximum}`): number {
  const value = /^(?:0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text) ? Number(text) : -1;
  if (value < 0 || value > maximum) throw new CliError('USAGE', `"${text}" is not ${what}`, hint);
  return value;
}

export function zoneOf(text: string): number {
  return numberOf(text, 0xffff, 'a zone');
}

const portOf = (text: string) => numberOf(text, 0xffff, 'a port');

function markOf(text: string): { value: number; mask: number } {
  const [value, mask = '0xffffffff', ...more] = text.split('/');
  const hint = 'give VALUE or VALUE/MASK, numbers of 32 bits each, such as 0x10/0xf0';
  if (more.length > 0) throw new CliError('USAGE', `"${text}" is not a mark`, hint);
  const mark = {
    value: numberOf(value, 0xffff_ffff, 'a mark', hint),
    mask: numberOf(mask, 0xffff_ffff, 'the mask of a mark', hint),
  };
  if ((mark.value & ~mark.mask) !== 0) throw new CliError('USAGE', `"${text}" has bits set outside its mask`, hint);
  return mark;
}

/** What the options say; empty when none was given. @throws CliError */
export function filterOf(options: FilterOptions): ConnectionFilterParams {
  const { zone, ip, protocol, source, destination, address, sourcePort, destinationPort, port, state, mark, nat } =
    options;
  if (options.replied === true && options.unreplied === true)
    throw new CliError('USAGE', '--replied and --unreplied contradict each other');
  return {
    ...(zone === undefined ? {} : { zone: zoneOf(zone) }),
    ...(ip === undefined ? {} : { version: Number(ip) }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(source === undefined ? {} : { source }),
    ...(destination === undefined ? {} : { destination }),
    ...(address === undefined ? {} : { address }),
    ...(sourcePort === undefined ? {} : { sourcePort: portOf(sourcePort) }),
    ...(destinationPort === undefined ? {} : { destinationPort: portOf(destinationPort) }),
    ...(port === undefined ? {} : { port: portOf(port) }),
    ...(state === undefined ? {} : { state }),
    ...(mark === undefined ? {} : { mark: markOf(mark) }),
    ...(nat === undefined ? {} : { nat }),
    ...(options.replied === true ? { isReplied: true } : options.unreplied === true ? { isReplied: false } : {}),
  };
}
