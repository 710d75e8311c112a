/** `millrace offload`: which flows run in the kernel, which do not and why, and the programs that run them. */
import { Command } from 'commander';
import type { OffloadInfo } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { count } from '../format.ts';
import { table } from '../table.ts';

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
  }
  return lines.join('');
}

/** `millrace offload ...` */
export function offloadCommand(cli: Cli): Command {
  const offload = new Command('offload').description('flows that run in the kernel');

  offload
    .command('show', { isDefault: true })
    .option('--flows', 'every flow that is not offloaded, with the reason')
    .description('per port the hook and what it carries; masks, flows, and why some flows are not there')
    .action(async (options: { flows?: boolean }) => {
      const info = await cli.call('offload.show', {});
      const refused = options.flows === true ? await cli.call('offload.refused', {}) : [];
      cli.print(options.flows === true ? { ...info, refused } : info, () =>
        [
          showText(info),
          ...refused.map((flow) => `${flow.table}: ${flow.match}, actions:${flow.actions}\n  ${flow.reason}\n`),
        ].join(''),
      );
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
