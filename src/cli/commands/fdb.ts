/** `millrace fdb`: the forwarding database, which addresses are behind which port. */
import { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { duration } from '../format.ts';
import { table } from '../table.ts';

interface FilterOptions {
  port?: string;
  vlan?: string;
  mac?: string;
}

function vlanOf(text: string): number {
  if (!/^\d{1,4}$/.test(text) || Number(text) > 4094)
    throw new CliError('USAGE', `"${text}" is not a VLAN id`, 'give a number from 0 (untagged) to 4094');
  return Number(text);
}

function filterOf(options: FilterOptions) {
  return {
    ...(options.port === undefined ? {} : { port: options.port }),
    ...(options.vlan === undefined ? {} : { vlan: vlanOf(options.vlan) }),
    ...(options.mac === undefined ? {} : { mac: options.mac }),
  };
}

function withFilter(command: Command): Command {
  return command
    .option('-p, --port <port>', 'only addresses behind this port')
    .option('--vlan <vlan>', 'only this VLAN; 0 is untagged')
    .option('--mac <address>', 'only this address');
}

/** `millrace fdb ...` */
export function fdbCommand(cli: Cli): Command {
  const fdb = new Command('fdb').description('learned and static addresses');

  withFilter(
    fdb.command('show', { isDefault: true }).description('addresses, and the port that each is behind'),
  ).action(async (options: FilterOptions) => {
    const entries = await cli.call('fdb.show', filterOf(options));
    cli.print(entries, () =>
      entries.length === 0
        ? 'No addresses are known.\n'
        : table(
            [{ head: 'ADDRESS' }, { head: 'VLAN', align: 'right' }, { head: 'PORT' }, { head: 'AGE', align: 'right' }],
            entries.map((entry) => [
              entry.mac,
              entry.vlan === 0 ? '-' : String(entry.vlan),
              entry.port,
              entry.ageSeconds === null ? 'static' : duration(entry.ageSeconds),
            ]),
          ),
    );
  });

  withFilter(fdb.command('flush').description('forget learned addresses; static ones stay')).action(
    async (options: FilterOptions) => {
      const result = await cli.call('fdb.flush', filterOf(options));
      cli.print(result, () => `Forgot ${result.flushed} address${result.flushed === 1 ? '' : 'es'}.\n`);
    },
  );

  fdb
    .command('add')
    .argument('<address>', 'MAC address')
    .argument('<port>')
    .option('--vlan <vlan>', 'VLAN of the entry; 0 is untagged', '0')
    .description('add a static address')
    .action(async (mac: string, port: string, options: { vlan: string }) => {
      const entry = { mac, vlan: vlanOf(options.vlan), port };
      await cli.call('fdb.add', entry);
      cli.print(entry, () => `${mac} is behind port ${port} from now on.\n`);
    });

  fdb
    .command('del')
    .alias('rm')
    .argument('<address>', 'MAC address')
    .option('--vlan <vlan>', 'VLAN of the entry; 0 is untagged', '0')
    .description('remove a static address')
    .action(async (mac: string, options: { vlan: string }) => {
      const entry = { mac, vlan: vlanOf(options.vlan) };
      await cli.call('fdb.del', entry);
      cli.print(entry, () => `Removed the static address ${mac}.\n`);
    });
  return fdb;
}
