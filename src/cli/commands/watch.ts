/** `millrace status`, `stats`, `drops`, `events`: what is going on. */
import { Command, Option } from 'commander';
import type { DaemonEvent, PortInfo, Status } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { bytes, clock, count, duration, scaled } from '../format.ts';
import { milliseconds } from '../seconds.ts';
import { pairs, printable, table } from '../table.ts';

function statusText(status: Status): string {
  const { ports } = status;
  const portText = ports.total === 0 ? 'none' : `${ports.total}, ${ports.up === ports.total ? 'all' : ports.up} up`;
  const stack = status.extensions.map((extension) => {
    const { name, state, error, keeps } = extension;
    const parts = [
      ...(state === 'running' ? [] : [state]),
      ...(error === null ? [] : [error]),
      ...(keeps === null ? [] : [keeps]),
    ];
    return parts.length === 0 ? name : `${name} (${parts.join(': ')})`;
  });
  const forwards = status.extensions.some(({ type, state }) => type === 'forwarding' && state === 'running');
  return pairs([
    ...(status.stuck === null ? [] : [['datapath', `${status.stuck}; what follows is older`] as [string, string]]),
    ['millrace', `${status.version}, pid ${status.pid}, up ${duration(status.uptimeSeconds)}`],
    ['socket', status.socket],
    ['configuration', status.configFile ?? 'none'],
    ['ports', portText],
    ...(status.overloaded.length === 0
      ? []
      : [['overloaded', `${status.overloaded.join(', ')}: more new flows than their share`] as [string, string]]),
    [
      'extensions',
      `${stack.length === 0 ? 'none' : stack.join(', ')}${forwards ? '' : '; none forwards: every frame is flooded'}`,
    ],
    ['addresses', `${count(status.learnedAddresses)}${fullText(status.fullAddressTable)}`],
    ...(status.connections === null
      ? []
      : [
          ['connections', `${count(status.connections.connections)} of ${count(status.connections.maximum)}`] as [
            string,
            string,
          ],
        ]),
    ['received', `${count(status.counters.receivedPackets)} packets, ${bytes(status.counters.receivedBytes)}`],
    ['sent', `${count(status.counters.transmittedPackets)} packets, ${bytes(status.counters.transmittedBytes)}`],
    ['dropped', `${count(status.drops)} packets`],
    ['memory', bytes(status.memory.residentBytes)],
    ['processor', `${status.cpuSeconds.toFixed(1)} s since the start`],
  ]);
}

function fullText(full: Status['fullAddressTable']): string {
  if (full === null) return '';
  const made = full.exchanged === 0 ? '' : `; ${count(full.exchanged)} have made room for others`;
  return ` (the table is full: ${count(full.addresses)} behind port ${full.port}${made})`;
}

/** `millrace status` */
export function statusCommand(cli: Cli): Command {
  return new Command('status').description('the daemon: version, ports, extensions, counters').action(async () => {
    const status = await cli.call('status', {});
    cli.print(status, () => statusText(status));
  });
}

/** One port's figures of a moment, or of the time between two. */
interface PortRates {
  port: string;
  state: string;
  receivedPackets: number;
  receivedBytes: number;
  transmittedPackets: number;
  transmittedBytes: number;
  drops: number;
}

const allDrops = (port: PortInfo) => port.drops + port.counters.receiveDropped;

/** Figures a second between two readings; a port that is new counts from zero, one made anew is not negative. */
function ratesOf(before: readonly PortInfo[], now: readonly PortInfo[], seconds: number): PortRates[] {
  const earlier = new Map(before.map((port) => [port.name, port]));
  return now.map((port) => {
    const old = earlier.get(port.name);
    const rate = (value: number, previous: number | undefined) => Math.max(0, value - (previous ?? 0)) / seconds;
    return {
      port: port.name,
      state: port.state,
      receivedPackets: rate(port.counters.receivedPackets, old?.counters.receivedPackets),
      receivedBytes: rate(port.counters.receivedBytes, old?.counters.receivedBytes),
      transmittedPackets: rate(port.counters.transmittedPackets, old?.counters.transmittedPackets),
      transmittedBytes: rate(port.counters.transmittedBytes, old?.counters.transmittedBytes),
      drops: rate(allDrops(port), old === undefined ? undefined : allDrops(old)),
    };
  });
}

function totalsTable(ports: readonly PortInfo[]): string {
  return table(
    [
      { head: 'PORT' },
      { head: 'STATE' },
      { head: 'RX PACKETS', align: 'right' },
      { head: 'RX BYTES', align: 'right' },
      { head: 'TX PACKETS', align: 'right' },
      { head: 'TX BYTES', align: 'right' },
      { head: 'DROPPED', align: 'right' },
      { head: 'RX LOST', align: 'right' },
      { head: 'TX LOST', align: 'right' },
    ],
    ports.map(({ name, state, counters, drops }) => [
      name,
      state,
      count(counters.receivedPackets),
      count(counters.receivedBytes),
      count(counters.transmittedPackets),
      count(counters.transmittedBytes),
      count(drops),
      count(counters.receiveDropped),
      count(counters.transmitDropped),
    ]),
  );
}

function ratesTable(rates: readonly PortRates[]): string {
  return table(
    [
      { head: 'PORT' },
      { head: 'STATE' },
      { head: 'RX', align: 'right' },
      { head: '', align: 'right' },
      { head: 'TX', align: 'right' },
      { head: '', align: 'right' },
      { head: 'DROPS', align: 'right' },
    ],
    rates.map((rate) => [
      rate.port,
      rate.state,
      scaled(rate.receivedPackets, 'pps'),
      scaled(rate.receivedBytes * 8, 'bit/s'),
      scaled(rate.transmittedPackets, 'pps'),
      scaled(rate.transmittedBytes * 8, 'bit/s'),
      scaled(rate.drops, '/s'),
    ]),
  );
}

async function watchStats(cli: Cli, names: readonly string[], intervalMs: number): Promise<void> {
  const client = await cli.connect();
  const chosen = async () => choose(await client.call('port.list', {}), names);
  const screen = process.stdout.isTTY === true && !cli.json;
  let before = await chosen();
  let beforeMs = performance.now();
  process.once('SIGINT', () => process.exit(0));
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
    const now = await chosen();
    const nowMs = performance.now();
    const rates = ratesOf(before, now, (nowMs - beforeMs) / 1000);
    before = now;
    beforeMs = nowMs;
    // Home, then clear what is below: no flicker.
    if (screen) process.stdout.write(`\u001b[H\u001b[J${ratesTable(rates)}`);
    else process.stdout.write(cli.json ? `${JSON.stringify(rates)}\n` : `${ratesTable(rates)}\n`);
  }
}

function choose(ports: readonly PortInfo[], names: readonly string[]): PortInfo[] {
  for (const name of names) {
    if (!ports.some((port) => port.name === name))
      throw new CliError('REFUSED', `there is no port "${name}"`, 'see `millrace port list`');
  }
  return ports.filter((port) => names.length === 0 || names.includes(port.name));
}

/** `millrace stats` */
export function statsCommand(cli: Cli): Command {
  return new Command('stats')
    .argument('[ports...]', 'all when none is named')
    .description('counters of the ports; with --watch, rates')
    .option('-w, --watch', 'show rates again and again, until Ctrl-C')
    .option('-i, --interval <seconds>', 'with --watch: time between two readings', '1')
    .addHelpText(
      'after',
      '\nExamples:\n  millrace stats\n  millrace stats --watch\n  millrace stats web --watch --interval 5',
    )
    .action(async (names: string[], options: { watch?: boolean; interval: string }) => {
      const intervalMs = milliseconds(options.interval, 'an interval', 0.1);
      if (options.watch === true) return watchStats(cli, names, intervalMs);
      const ports = choose(await cli.call('port.list', {}), names);
      cli.print(
        ports.map(({ name, state, counters, drops }) => ({ port: name, state, ...counters, drops })),
        () => totalsTable(ports),
      );
    });
}

/** `millrace drops` */
export function dropsCommand(cli: Cli): Command {
  return new Command('drops')
    .argument('[port]')
    .description('dropped packets, by port and reason')
    .action(async (port: string | undefined) => {
      const drops = await cli.call('drops', port === undefined ? {} : { port });
      cli.print(drops, () =>
        drops.length === 0
          ? 'Nothing was dropped.\n'
          : table(
              [{ head: 'PORT' }, { head: 'REASON' }, { head: 'PACKETS', align: 'right' }, { head: 'WHAT IT MEANS' }],
              drops.map((drop) => [
                drop.port === '' ? '(none)' : drop.port,
                drop.reason,
                count(drop.packets),
                drop.text,
              ]),
            ),
      );
    });
}

/** `millrace events` */
export function eventsCommand(cli: Cli): Command {
  return new Command('events')
    .description('what happened: ports that came and went, crashes, moved addresses')
    .option('-f, --follow', 'go on printing new ones, until Ctrl-C')
    .addOption(new Option('-n, --lines <n>', 'how many of the last ones').default('50'))
    .action(async (options: { follow?: boolean; lines: string }) => {
      const limit = Number(options.lines);
      if (!Number.isInteger(limit) || limit < 0 || limit > 1000)
        throw new CliError('USAGE', `"${options.lines}" is not a number from 0 to 1000`);
      const client = await cli.connect();
      const print = (event: DaemonEvent) => {
        const line = cli.json
          ? JSON.stringify(event)
          : `${clock(event.timeMs)}  ${event.type.padEnd(17)}  ${printable(event.message)}`;
        process.stdout.write(`${line}\n`);
      };
      if (options.follow !== true) {
        const recent = await client.call('events.recent', { limit });
        if (cli.json) cli.print(recent, () => '');
        else for (const event of recent) print(event);
        return;
      }
      client.onEvent = print;
      for (const event of await client.call('events.subscribe', { limit })) print(event);
      process.once('SIGINT', () => process.exit(0));
      await new Promise<void>((resolve) => {
        client.onClose = resolve;
      });
      throw new CliError('FAILED', 'the daemon has ended');
    });
}
