/** `millrace receive`: count what `millrace generate` sends. The work is done by bpf/, which is loaded only when it is used. */
import { Command, Option } from 'commander';
import type { ReceiveOptions, ReceiveResult, XdpMode } from '../../bpf/index.ts';
import type { Cli } from '../cli.ts';
import { count, scaled } from '../format.ts';
import { pairs, table } from '../table.ts';
import { amount, milliseconds, untilInterrupted, whole } from './traffic.ts';

interface Options {
  netdev: string;
  flows?: string;
  mode?: XdpMode;
  count?: string;
  duration?: string;
  idle?: string;
  perFlow?: boolean;
}

function optionsOf(options: Options): ReceiveOptions {
  return {
    netdev: options.netdev,
    mode: options.mode ?? 'auto',
    ...(options.flows === undefined ? {} : { flows: whole(options.flows, 'number of flows', 1, 65536) }),
    ...(options.count === undefined ? {} : { count: amount(options.count, 'number of frames') }),
    ...(options.duration === undefined ? {} : { durationMs: milliseconds(options.duration) }),
    ...(options.idle === undefined ? {} : { idleMs: milliseconds(options.idle) }),
  };
}

function totals(result: ReceiveResult): string {
  return pairs([
    ['interface', result.netdev],
    [
      'received',
      `${count(result.received)} frames, ${scaled(result.bytes, 'B')}, in ${count(result.flows.length)} flows`,
    ],
    ['lost', `${count(result.lost)} frames (${(result.lossRatio * 100).toFixed(3)} %)`],
    ['late', `${count(result.late)} frames came after a later one of their flow`],
    ['time', `${(result.durationMs / 1000).toFixed(3)} s from the first frame to the last`],
    ['rate', `${scaled(result.packetsPerSecond, 'pps')}, ${scaled(result.bitsPerSecond, 'bit/s')}`],
  ]);
}

function flowTable(result: ReceiveResult): string {
  return table(
    [
      { head: 'FLOW', align: 'right' },
      { head: 'RECEIVED', align: 'right' },
      { head: 'BYTES', align: 'right' },
      { head: 'LOST', align: 'right' },
      { head: 'LATE', align: 'right' },
    ],
    result.flows.map((flow) => [
      String(flow.flow),
      count(flow.received),
      count(flow.bytes),
      count(flow.lost),
      count(flow.late),
    ]),
  );
}

/** `millrace receive` */
export function receiveCommand(cli: Cli): Command {
  return new Command('receive')
    .description(
      'count the frames of `millrace generate` at the other end: rate, loss, order; Ctrl-C prints the totals',
    )
    .requiredOption('--netdev <name>', 'the interface where they arrive')
    .option('--flows <n>', 'flows to tell apart (default: 1024)')
    .addOption(new Option('--mode <mode>', 'where the XDP program runs').choices(['auto', 'driver', 'generic']))
    .option('--count <n>', 'end after this many frames')
    .option('--duration <time>', 'end after this time: 10s, 500ms, 2m')
    .option('--idle <time>', 'end when, after the first, none came for this time')
    .option('--per-flow', 'list every flow')
    .addHelpText(
      'after',
      `
Frames of the generator are counted and dropped; all others pass untouched.

Examples:
  millrace receive --netdev eth1
  millrace receive --netdev eth1 --idle 2s --per-flow
  millrace receive --netdev eth1 --count 1M --json`,
    )
    .action(async (options: Options) => {
      const chosen = optionsOf(options);
      const { receive } = await import('../../bpf/index.ts');
      const told = process.stderr.isTTY === true && !cli.json;
      const onProgress = (sofar: ReceiveResult) =>
        process.stderr.write(`\r${count(sofar.received)} frames, ${count(sofar.lost)} lost \u001b[K`);
      const result = await untilInterrupted((signal) =>
        receive({ ...chosen, signal, ...(told ? { onProgress } : {}) }),
      );
      if (told) process.stderr.write('\r\u001b[K');
      cli.print(result, () => `${totals(result)}${options.perFlow === true ? `\n${flowTable(result)}` : ''}`);
    });
}
