/** `millrace offload`: which flows run in the kernel, which do not and why, and the programs that run them. */
import { Command } from 'commander';
import type { OffloadFlow, OffloadInfo } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { count } from '../format.ts';
import { table } from '../table.ts';

function limitOf(text: string): number {
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > 10_000) throw new CliError('USAGE', `"${text}" is no number of flows`, 'it is 1 to 10000');
  return limit;
}

function showText(info: OffloadInfo): string {
  const lines = [`offload ${info.mode}${info.missing === null ? '' : `: not here, ${info.missing}`}\n\n`];
  lines.push(
    table(
      [
        { head: 'PORT' },
        { head: 'HOOK' },
        { head: 'PROGRAM', align: 'right' },
        { head: 'CARRIED', align: 'right' },
        { head: 'BYTES', align: 'right' },
        { head: 'DROPPED', align: 'right' },
        { head: 'PUNTED', align: 'right' },
        { head: 'PASSED', align: 'right' },
        { head: 'LOST', align: 'right' },
        { head: 'WHY' },
      ],
      info.ports.map((port) => [
        port.port,
        port.hook ?? '-',
        port.program === null ? '-' : String(port.program),
        count(port.carriedPackets),
        count(port.carriedBytes),
        count(port.droppedPackets),
        count(port.puntedPackets),
        count(port.passedPackets),
        count(Object.values(port.lost).reduce((sum, lost) => sum + lost, 0)),
        [port.reason ?? '', ...port.foreign.map((name) => `beside ${name}`)].filter((text) => text !== '').join('; '),
      ]),
    ),
  );
  if (info.channel !== null) {
    const { ringFull, truncated, malformed, unclaimed } = info.channel;
    const causes = { 'ring full': ringFull, truncated, malformed, 'of no port': unclaimed };
    const lost = Object.entries(causes).filter(([, packets]) => packets > 0);
    if (lost.length > 0)
      lines.push(`\nlost on the way to the engine: ${lost.map(([cause, n]) => `${count(n)} ${cause}`).join(', ')}\n`);
  }
  for (const one of info.tables) {
    const drops = one.dropFlows === 0 ? '' : `, ${count(one.dropFlows)} of all drop their packets`;
    lines.push(`\n${one.name}: ${count(one.flowsInKernel)} of ${count(one.flows)} flows in the kernel${drops}\n`);
    if (one.masks.length > 0) {
      lines.push(
        table(
          [{ head: 'MASK' }, { head: 'FLOWS', align: 'right' }, { head: 'HITS', align: 'right' }],
          one.masks.map((mask) => [mask.fields, count(mask.flows), count(mask.hits)]),
        ),
      );
    }
    for (const { reason, flows } of one.reasons) lines.push(`not offloaded: ${count(flows)}, ${reason}\n`);
    if (one.handedDown > 0) {
      const again = one.cameUpAgain === 0 ? '' : `, of which ${count(one.cameUpAgain)} came up again`;
      lines.push(`handed down by the engine: ${count(one.handedDown)} packets${again}\n`);
    }
    for (const { reason, packets } of one.apart)
      lines.push(`decided packet by packet: ${count(packets)}, as ${reason}\n`);
  }
  return lines.join('');
}

/** One flow: what it is, whose decision, and where it runs. */
function flowText(flow: OffloadFlow): string {
  const { table: name, match, actions, packets, bytes, deciders, drop, reason } = flow;
  const ends = drop === null ? '' : ` (${drop})`;
  const where = reason === null ? 'in the kernel' : `not in the kernel: ${reason}`;
  const counts = `packets:${packets}, bytes:${bytes}`;
  return `${name}: ${match}, ${counts}, actions:${actions}\n  decided by ${deciders.join(', ')}${ends}; ${where}\n`;
}

function flowsText(info: OffloadInfo, flows: readonly OffloadFlow[]): string {
  const more = info.tables.reduce((sum, { flows: all }) => sum + all, 0) - flows.length;
  return `\n${flows.map(flowText).join('')}${more > 0 ? `and ${count(more)} more\n` : ''}`;
}

/** `millrace offload ...` */
export function offloadCommand(cli: Cli): Command {
  const offload = new Command('offload').description('flows that run in the kernel');

  offload
    .command('show', { isDefault: true })
    .option('--flows', 'flows as well: whose decision each is, and whether the kernel runs it or why not')
    .option('--limit <n>', 'most flows that are named, 1 to 10000', '1000')
    .description('per port the hook and what it carries; masks, flows, and why some flows are not there')
    .action(async (options: { flows?: boolean; limit: string }) => {
      const limit = limitOf(options.limit);
      const info = await cli.call('offload.show', {});
      if (options.flows !== true) return cli.print(info, () => showText(info));
      const flows = await cli.call('offload.flows', { limit });
      cli.print({ ...info, flows }, () => showText(info) + flowsText(info, flows));
    });

  offload
    .command('dump')
    .argument('<port>')
    .option('--verifier', "the kernel's log of verifying the program instead")
    .description('the generated program of a port, with comments')
    .action(async (port: string, options: { verifier?: boolean }) => {
      const dump = await cli.call('offload.dump', { port, verifier: options.verifier === true });
      cli.print(dump, () => (dump.text.endsWith('\n') ? dump.text : `${dump.text}\n`));
    });
  return offload;
}
