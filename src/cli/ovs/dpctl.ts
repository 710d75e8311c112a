/** `millrace ovs dpctl`: what ovs-dpctl does, without Open vSwitch. The extension does the work; here it is asked and printed. */
import { Command, Option } from 'commander';
import { type ArgumentsOf, type CommandOf, OPEN_VSWITCH, type ResultOf } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';

type Flow = ResultOf<'ovs', 'get-flow'>;
type Datapath = ResultOf<'ovs', 'show'>[number];
type Port = Datapath['ports'][number];

/** As ovs-dpctl prints the flags of statistics: bit and letter. */
const FLAG_LETTERS: readonly (readonly [number, string])[] = [
  [2, 'S'],
  [1, 'F'],
  [8, 'P'],
  [4, 'R'],
  [32, 'U'],
  [16, '.'],
  [64, 'E'],
  [128, 'C'],
];

function flowText(flow: Flow, more: boolean): string {
  const flags = FLAG_LETTERS.filter(([bit]) => (flow.tcpFlags & bit) !== 0)
    .map(([, letter]) => letter)
    .join('');
  return [
    ...(more && flow.ufid !== null ? [`ufid:${flow.ufid}`] : []),
    flow.match,
    ` packets:${flow.packets}`,
    ` bytes:${flow.bytes}`,
    ` used:${flow.usedSeconds === null ? 'never' : `${flow.usedSeconds.toFixed(3)}s`}`,
    ...(flags === '' ? [] : [` flags:${flags}`]),
    ` actions:${flow.actions}`,
  ].join(',');
}

function portText(port: Port): string {
  const kind = port.udpPort === undefined ? port.type : `${port.type}: dst_port=${port.udpPort}`;
  return `  port ${port.number}: ${port.name}${kind === 'netdev' ? '' : ` (${kind})`}\n`;
}

function portStatistics(port: Port): string {
  return (
    `    RX packets:${port.receivedPackets} bytes:${port.receivedBytes}\n` +
    `    TX packets:${port.transmittedPackets} bytes:${port.transmittedBytes} unsent:${port.unsent}\n`
  );
}

function datapathText(datapath: Datapath, statistics: boolean): string {
  const { lookups, masks } = datapath;
  const all = lookups.hits + lookups.misses;
  const ratio = all === 0 ? 0 : masks.tried / all;
  return [
    `${datapath.name}:\n`,
    `  lookups: hit:${lookups.hits} missed:${lookups.misses} lost:${lookups.lost}\n`,
    `  flows: ${datapath.flows}\n`,
    `  masks: hit:${masks.tried} total:${masks.count} hit/pkt:${ratio.toFixed(2)}\n`,
    `  cache: hit:${masks.cacheHits}\n`,
    ...datapath.ports.flatMap((port) => (statistics ? [portText(port), portStatistics(port)] : [portText(port)])),
  ].join('');
}

/** Commands that take a datapath first take it only when more arguments than they need are given. */
function splitDatapath(given: readonly string[], needed: number): { datapath?: string; rest: readonly string[] } {
  return given.length > needed ? { datapath: given[0], rest: given.slice(1) } : { rest: given };
}

/** `millrace ovs dpctl ...` */
export function dpctlCommand(cli: Cli): Command {
  const ask = <C extends CommandOf<'ovs'>>(command: C, args: ArgumentsOf<'ovs', C>) =>
    cli.ask(OPEN_VSWITCH, command, args);
  const where = (datapath: string | undefined) => (datapath === undefined ? {} : { datapath });

  const dpctl = new Command('dpctl').description('datapaths, ports and flows, in the syntax of ovs-dpctl');

  dpctl
    .command('show')
    .argument('[datapath]')
    .option('-s, --statistics', 'count packets of every port')
    .description('datapaths with their ports')
    .action(async (datapath: string | undefined, options: { statistics?: boolean }) => {
      const shown = await ask('show', where(datapath));
      cli.print(shown, () =>
        shown.length === 0
          ? 'There are no datapaths.\n'
          : shown.map((one) => datapathText(one, options.statistics === true)).join(''),
      );
    });

  dpctl
    .command('dump-dps')
    .description('names of the datapaths')
    .action(async () => {
      const names = await ask('dump-dps', {});
      cli.print(names, () => names.map((name) => `system@${name}\n`).join(''));
    });

  dpctl
    .command('dump-ports')
    .argument('[datapath]')
    .description('ports with what they have carried')
    .action(async (datapath: string | undefined) => {
      const shown = await ask('show', where(datapath));
      const ports = shown.flatMap((one) => one.ports.map((port) => ({ datapath: one.name, ...port })));
      cli.print(ports, () => ports.map((port) => portText(port) + portStatistics(port)).join(''));
    });

  dpctl
    .command('dump-flows')
    .argument('[datapath]')
    .option('-m, --more', 'identifiers too')
    .option('--filter <text>', 'only flows whose match or actions hold this text')
    .description('flows with what they have carried')
    .action(async (datapath: string | undefined, options: { more?: boolean; filter?: string }) => {
      const client = await cli.connect();
      const all: Flow[] = [];
      let from: number | null = 0;
      while (from !== null) {
        const args = { ...where(datapath), from, ...(options.filter === undefined ? {} : { filter: options.filter }) };
        const part: ResultOf<'ovs', 'dump-flows'> = await client.ask(OPEN_VSWITCH, 'dump-flows', args);
        if (cli.json) all.push(...part.flows);
        else process.stdout.write(part.flows.map((flow) => `${flowText(flow, options.more === true)}\n`).join(''));
        from = part.next;
      }
      if (cli.json) cli.print(all, () => '');
    });

  dpctl
    .command('get-flow')
    .argument('<[datapath] flow...>', 'a flow as dump-flows prints it, or ufid:...')
    .description('one flow')
    .action(async (given: string[]) => {
      const { datapath, rest } = splitDatapath(given, 1);
      const flow = await ask('get-flow', { ...where(datapath), flow: rest[0] });
      cli.print(flow, () => `${flowText(flow, true)}\n`);
    });

  for (const [name, text] of [
    ['add-flow', 'add a flow'],
    ['mod-flow', 'change the actions of a flow'],
  ] as const) {
    dpctl
      .command(name)
      .argument('<[datapath] flow actions...>', 'such as "in_port(1),eth(),eth_type(0x0800),ipv4()" 2')
      .description(text)
      .action(async (given: string[]) => {
        const { datapath, rest } = splitDatapath(given, 2);
        const [flow, actions] = rest;
        if (actions === undefined) dpctl.error(`${name} takes a flow and its actions`);
        await ask(name, { ...where(datapath), flow, actions });
        cli.print({ flow, actions }, () => '');
      });
  }

  dpctl
    .command('del-flow')
    .argument('<[datapath] flow...>', 'a flow, or ufid:...')
    .description('delete one flow')
    .action(async (given: string[]) => {
      const { datapath, rest } = splitDatapath(given, 1);
      await ask('del-flow', { ...where(datapath), flow: rest[0] });
      cli.print({ flow: rest[0] }, () => '');
    });

  dpctl
    .command('del-flows')
    .argument('[datapath]')
    .description('delete all flows')
    .action(async (datapath: string | undefined) => {
      const answer = await ask('del-flows', where(datapath));
      cli.print(answer, () => `Deleted ${answer.deleted} flow${answer.deleted === 1 ? '' : 's'}.\n`);
    });

  dpctl
    .command('add-dp')
    .argument('<datapath>')
    .description('make a datapath')
    .action(async (datapath: string) => {
      await ask('add-dp', { datapath });
      cli.print({ datapath }, () => '');
    });
  dpctl
    .command('del-dp')
    .argument('<datapath>')
    .description('delete a datapath with its ports and flows')
    .action(async (datapath: string) => {
      await ask('del-dp', { datapath });
      cli.print({ datapath }, () => '');
    });
  dpctl
    .command('add-if')
    .argument('<datapath>')
    .argument('<port>', 'an interface, or the name of a TAP to make')
    .addOption(new Option('--type <type>', 'what kind of port').choices(['netdev', 'internal']).default('netdev'))
    .description('add a port')
    .action(async (datapath: string, port: string, options: { type: 'netdev' | 'internal' }) => {
      const added = await ask('add-if', { datapath, port, type: options.type });
      cli.print(added, () => '');
    });
  dpctl
    .command('del-if')
    .argument('<datapath>')
    .argument('<port>')
    .description('remove a port')
    .action(async (datapath: string, port: string) => {
      await ask('del-if', { datapath, port });
      cli.print({ port }, () => '');
    });
  return dpctl;
}
