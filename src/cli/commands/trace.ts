/** `millrace trace` and `millrace inject`: what would happen to a frame, and making it happen. */
import { Command } from 'commander';
import { loadPcapReader, type TraceResult } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { traceText } from '../trace-text.ts';

interface FrameOptions {
  pcap?: string;
  number?: string;
}

/** The frames that a command line names: one in hexadecimal, or those of a file. */
async function framesOf(words: readonly string[], options: FrameOptions): Promise<string[]> {
  if (options.pcap === undefined) {
    if (words.length === 0)
      throw new CliError('USAGE', 'no frame was given', 'give it in hexadecimal, or a file with --pcap');
    return [words.join('')];
  }
  if (words.length > 0) throw new CliError('USAGE', 'give a frame or --pcap, not both');
  const { readFrames } = await loadPcapReader();
  const frames = readFrames(options.pcap);
  if (options.number === undefined) return frames;
  const index = Number(options.number) - 1;
  if (!(index in frames))
    throw new CliError('USAGE', `there is no packet ${options.number} in ${options.pcap}`, `it holds ${frames.length}`);
  return [frames[index]];
}

function withFrame(command: Command): Command {
  return command
    .argument('<port>', 'port that the frame comes in through')
    .argument('[hex...]', 'the frame in hexadecimal, from the destination MAC address on')
    .option('--pcap <file>', 'frames of a pcap or pcapng file')
    .option('-n, --number <n>', 'with --pcap: only this packet, counted from 1');
}

/** `millrace trace` */
export function traceCommand(cli: Cli): Command {
  return withFrame(new Command('trace'))
    .description('each step that a frame would take, and why; nothing is sent or learned')
    .addHelpText(
      'after',
      `
Examples:
  millrace trace web ffffffffffff 020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002
  millrace trace web --pcap strange.pcapng --number 3`,
    )
    .action(async (port: string, words: string[], options: FrameOptions) => {
      const results: TraceResult[] = [];
      const client = await cli.connect();
      for (const frame of await framesOf(words, options)) results.push(await client.call('trace', { port, frame }));
      cli.print(options.pcap === undefined ? results[0] : results, () => results.map(traceText).join('\n'));
    });
}

/** `millrace inject` */
export function injectCommand(cli: Cli): Command {
  return withFrame(new Command('inject'))
    .description('put frames into the switch as if they had come in through a port')
    .action(async (port: string, words: string[], options: FrameOptions) => {
      const frames = await framesOf(words, options);
      const client = await cli.connect();
      for (const frame of frames) await client.call('inject', { port, frame });
      cli.print(
        { port, frames: frames.length },
        () => `${frames.length === 1 ? 'One frame' : `${frames.length} frames`} went in through port ${port}.\n`,
      );
    });
}
