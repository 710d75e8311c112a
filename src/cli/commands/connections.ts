/** `millrace connections`: what is tracked, what happens to it, and how much of it there may be. Tables may be huge, so they come and go in pages. */
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { Command, Option } from 'commander';
import type { Client, ConnectionLimits, ConnectionStatistics } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { changeText, connectionDetails, connectionLine } from '../connection-text.ts';
import { CliError } from '../exit.ts';
import { clock, count } from '../format.ts';
import { pairs, printable, table } from '../table.ts';
import { type FilterOptions, filterOf, withFilter, zoneOf } from './connection-filter.ts';

const PAGE = 500;
const WATCH_MS = 250;
const PROGRESS_MS = 500;

interface ListOptions extends FilterOptions {
  limit?: string;
  watch?: boolean;
}

/** Write, and wait while the reader is slow. */
async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

function limitOf(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  const limit = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (limit < 1) throw new CliError('USAGE', `"${text}" is no number of connections`, 'it is 1 or more');
  return limit;
}

async function list(cli: Cli, options: ListOptions): Promise<void> {
  const limit = limitOf(options.limit);
  const filter = filterOf(options);
  const client = await cli.connect();
  let printed = 0;
  for (let from = 1; from !== 0 && printed < limit; ) {
    const page = await client.call('connections.list', { filter, from, limit: Math.min(PAGE, limit - printed) });
    from = page.next;
    for (const connection of page.connections) {
      const separator = printed === 0 ? '[\n' : ',\n';
      await write(cli.json ? `${separator}  ${JSON.stringify(connection)}` : `${connectionLine(connection)}\n`);
      printed += 1;
    }
  }
  if (cli.json) await write(printed === 0 ? '[]\n' : '\n]\n');
  else if (printed === 0) await write('There are no such connections.\n');
}

async function watch(cli: Cli, options: FilterOptions): Promise<void> {
  const filter = filterOf(options);
  const client = await cli.connect();
  process.once('SIGINT', () => process.exit(0));
  let answer = await client.call('connections.changes', { filter });
  for (;;) {
    const { changes, lost, next } = answer;
    if (lost > 0) process.stderr.write(`millrace: ${count(lost)} changes came too fast and are not shown\n`);
    for (const change of changes) {
      await write(`${cli.json ? JSON.stringify(change) : `${clock(change.timeMs)}  ${changeText(change)}`}\n`);
    }
    // Many at once come in several answers.
    if (changes.length === 0) await setTimeout(WATCH_MS);
    answer = await client.call('connections.changes', { filter, after: next });
  }
}

async function flush(cli: Cli, options: FilterOptions & { all?: boolean }): Promise<void> {
  const filter = filterOf(options);
  const isFiltered = Object.keys(filter).length > 0;
  if (isFiltered === (options.all === true)) {
    const message = isFiltered
      ? '--all and a filter contradict each other'
      : 'nothing says which connections are to be ended';
    throw new CliError('USAGE', message, 'give --all, or options that pick some, such as --zone');
  }
  const client = await cli.connect();
  let ended = 0;
  let toldMs = performance.now();
  const isShown = process.stderr.isTTY === true && !cli.json;
  for (let from = 1; from !== 0; ) {
    const params = isFiltered ? { filter, from } : { all: true as const, from };
    const step = await client.call('connections.flush', params);
    ended += step.ended;
    from = step.next;
    if (isShown && performance.now() - toldMs > PROGRESS_MS) {
      toldMs = performance.now();
      process.stderr.write(`\r${count(ended)} ended so far`);
    }
  }
  if (isShown) process.stderr.write('\r\u001b[K');
  cli.print({ ended }, () => `Ended ${count(ended)} connection${ended === 1 ? '' : 's'}.\n`);
}

async function find(client: Client, id: number) {
  for (let from = 1; from !== 0; ) {
    const { connections, next } = await client.call('connections.list', { filter: { id }, from, limit: 1 });
    if (connections.length > 0) return connections[0];
    from = next;
  }
  const hint = 'ids are in `millrace connections list`; a connection that has ended has none';
  throw new CliError('REFUSED', `there is no connection ${id}`, hint);
}

const named = (counts: Readonly<Record<string, number>>) =>
  Object.entries(counts)
    .map(([name, value]) => `${count(value)} ${name}`)
    .join(', ');

function statisticsText(all: ConnectionStatistics): string {
  const share = all.maximum === 0 ? 0 : Math.round((all.connections / all.maximum) * 100);
  const text = pairs([
    ['connections', `${count(all.connections)} of ${count(all.maximum)} (${share} %)`],
    ['created', count(all.created)],
    ['ended', named(all.ended)],
    ['refused', named(all.refused)],
    ['invalid', `${count(all.invalid)} packets`],
    ['zones', count(all.zonesInUse)],
  ]);
  return [text, zonesText(all), pressureText(all)].filter((part) => part !== '').join('\n');
}

function zonesText(all: ConnectionStatistics): string {
  if (all.zones.length === 0) return '';
  return table(
    [
      { head: 'ZONE', align: 'right' },
      { head: 'CONNECTIONS', align: 'right' },
      { head: 'UNREPLIED', align: 'right' },
      { head: 'LIMIT', align: 'right' },
    ],
    all.zones.map(({ zone, connections, unreplied, limit }) => [
      String(zone),
      count(connections),
      count(unreplied),
      limit === null ? '-' : count(limit),
    ]),
  );
}

/** Who has lost connections for want of room. */
function pressureText(all: ConnectionStatistics): string {
  if (all.pressure.length === 0) return '';
  return table(
    [
      { head: 'ZONE', align: 'right' },
      { head: 'PORT' },
      { head: 'EVICTED', align: 'right' },
      { head: 'REFUSED', align: 'right' },
    ],
    all.pressure.map(({ zone, port, evicted, refused }) => [
      String(zone),
      String(port ?? '-'),
      count(evicted),
      count(refused),
    ]),
  );
}

function limitsText(limits: ConnectionLimits): string {
  const row = (zone: string, limit: number | null, connections: string) => [
    zone,
    limit === null ? 'none' : count(limit),
    connections,
  ];
  return table(
    [{ head: 'ZONE' }, { head: 'LIMIT', align: 'right' }, { head: 'CONNECTIONS', align: 'right' }],
    [
      row('default', limits.default, '-'),
      ...limits.zones.map(({ zone, limit, connections }) => row(String(zone), limit, count(connections))),
    ],
  );
}

/** A zone, or the default of all. */
function limitedZone(text: string): { zone?: number } {
  return text === 'default' ? {} : { zone: zoneOf(text) };
}

function limitsCommand(cli: Cli): Command {
  const limits = new Command('limits').description('how many connections a zone may have');
  limits
    .command('show', { isDefault: true })
    .description('all limits that were set')
    .action(async () => {
      const all = await cli.call('connections.limits', {});
      cli.print(all, () => limitsText(all));
    });
  limits
    .command('set')
    .argument('<zone>', 'a number, or `default` for all zones that have no limit of their own')
    .argument('<connections>', '0 is no limit')
    .description('let a zone have so many connections; those that are there stay')
    .action(async (zone: string, text: string) => {
      const limit = /^\d{1,10}$/.test(text) ? Number(text) : -1;
      if (limit < 0 || limit > 0xffff_ffff) throw new CliError('USAGE', `"${text}" is no number of connections`);
      const all = await cli.call('connections.setLimit', { ...limitedZone(zone), limit });
      cli.print(all, () => limitsText(all));
    });
  limits
    .command('del')
    .alias('rm')
    .argument('<zone>', 'a number, or `default`')
    .description('take a limit back: the zone has the default again')
    .action(async (zone: string) => {
      const all = await cli.call('connections.setLimit', limitedZone(zone));
      cli.print(all, () => limitsText(all));
    });
  return limits;
}

/** `millrace connections ...` */
export function connectionsCommand(cli: Cli): Command {
  const connections = new Command('connections').description('connections that are tracked');
  withFilter(
    connections
      .command('list', { isDefault: true })
      .description('connections, one a line; with --watch, what happens to them'),
  )
    .addOption(new Option('-n, --limit <n>', 'at most so many'))
    .option('-w, --watch', 'print what begins, changes and ends, until Ctrl-C')
    .addHelpText(
      'after',
      `
Examples:
  millrace connections --zone 5 --protocol tcp --state ESTABLISHED
  millrace connections --source 10.0.0.0/8 --destination-port 443
  millrace connections --nat any --json
  millrace connections --watch --address 192.0.2.9`,
    )
    .action((options: ListOptions) => (options.watch === true ? watch(cli, options) : list(cli, options)));
  connections
    .command('show')
    .argument('<id>', 'of `millrace connections list`')
    .description('all that is known of a connection')
    .action(async (text: string) => {
      const id = /^\d{1,10}$/.test(text) ? Number(text) : -1;
      if (id < 0 || id > 0xffff_ffff) throw new CliError('USAGE', `"${text}" is not the id of a connection`);
      const connection = await find(await cli.connect(), id);
      cli.print(connection, () => pairs(connectionDetails(connection)));
    });
  withFilter(connections.command('flush').description('end connections: all, or those that the options pick'))
    .option('--all', 'all connections')
    .addHelpText('after', '\nExamples:\n  millrace connections flush --zone 5\n  millrace connections flush --all')
    .action((options: FilterOptions & { all?: boolean }) => flush(cli, options));
  connections
    .command('stats')
    .option('-z, --zones <n>', 'how many zones to show, those with most connections', '20')
    .description('counts, and which zones have most connections')
    .action(async (options: { zones: string }) => {
      const zones = /^\d{1,5}$/.test(options.zones) ? Number(options.zones) : 65_537;
      if (zones > 65_536) throw new CliError('USAGE', `"${printable(options.zones)}" is no number of zones`);
      const all = await cli.call('connections.stats', { zones });
      cli.print(all, () => statisticsText(all));
    });
  connections.addCommand(limitsCommand(cli));
  return connections;
}
