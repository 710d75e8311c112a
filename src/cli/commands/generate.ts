/** `millrace generate`: send frames from inside the kernel. The work is done by bpf/, which is loaded only when it is used. */
import { Command, Option } from 'commander';
import type { GenerateOptions, GenerateResult, Variation, VlanTag } from '../../bpf/index.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { count, scaled } from '../format.ts';
import { pairs } from '../table.ts';
import { amount, milliseconds, untilInterrupted, whole } from './traffic.ts';

interface Options {
  netdev: string;
  pps?: string;
  max?: boolean;
  size?: string;
  flows?: string;
  vary?: Variation;
  vlan?: string;
  count?: string;
  duration?: string;
  threads?: string;
  batch?: string;
  prepare?: boolean;
  srcMac?: string;
  dstMac?: string;
  srcIp?: string;
  dstIp?: string;
  srcPort?: string;
  dstPort?: string;
}

/** `10`, `10:3` with a priority, `100,10` for a service tag (802.1ad) around a customer tag. */
function vlanTags(text: string): VlanTag[] {
  const parts = text.split(',');
  return parts.map((part, index) => {
    const [id = '', priority = '0'] = part.split(':');
    const tpid = parts.length === 2 && index === 0 ? 0x88a8 : 0x8100;
    return { id: whole(id, 'VLAN id', 1, 4094), priority: whole(priority, 'VLAN priority', 0, 7), tpid };
  });
}

function given<Key extends string, T>(key: Key, value: string | undefined, read: (text: string) => T) {
  return (value === undefined ? {} : { [key]: read(value) }) as { [K in Key]?: T };
}

const asIs = (text: string) => text;
const port = (text: string) => whole(text, 'port', 0, 65535);

function optionsOf(options: Options): GenerateOptions {
  if (options.pps !== undefined && options.max === true)
    throw new CliError('USAGE', '--pps and --max contradict each other', 'give one of them');
  return {
    netdev: options.netdev,
    pps: options.pps === undefined ? 'max' : amount(options.pps, 'rate'),
    ...given('sizeBytes', options.size, (text) => whole(text, 'frame size', 60, 65535)),
    ...given('flows', options.flows, (text) => whole(text, 'number of flows', 1, 65536)),
    ...(options.vary === undefined ? {} : { vary: options.vary }),
    ...given('vlan', options.vlan, vlanTags),
    ...given('count', options.count, (text) => amount(text, 'number of frames')),
    ...given('durationMs', options.duration, milliseconds),
    ...given('threads', options.threads, (text) => whole(text, 'number of threads', 1, 4)),
    ...given('batch', options.batch, (text) => whole(text, 'batch', 1, 256)),
    ...given('sourceMac', options.srcMac, asIs),
    ...given('destinationMac', options.dstMac, asIs),
    ...given('sourceAddress', options.srcIp, asIs),
    ...given('destinationAddress', options.dstIp, asIs),
    ...given('sourcePort', options.srcPort, port),
    ...given('destinationPort', options.dstPort, port),
    prepare: options.prepare ?? false,
  };
}

function resultText(result: GenerateResult): string {
  return pairs([
    ['interface', result.netdev],
    ['sent', `${count(result.sent)} frames of ${result.sizeBytes} bytes in ${count(result.flows)} flows`],
    ['time', `${(result.durationMs / 1000).toFixed(3)} s${result.interrupted ? ', interrupted' : ''}`],
    ['rate', `${scaled(result.packetsPerSecond, 'pps')}, ${scaled(result.bitsPerSecond, 'bit/s')}`],
  ]);
}

/** `millrace generate` */
export function generateCommand(cli: Cli): Command {
  return new Command('generate')
    .description('send frames from inside the kernel, millions a second; `millrace receive` counts them')
    .requiredOption('--netdev <name>', 'the interface to send through')
    .option('--pps <rate>', 'frames a second, such as 1000, 250k or 1.5M')
    .option('--max', 'as many as can be (the default)')
    .option('--size <bytes>', 'length of the Ethernet frame without its checksum (default: the shortest, 60)')
    .option('--flows <n>', 'different flows, in turn (default: 1)')
    .addOption(new Option('--vary <what>', 'what differs between flows').choices(['port', 'address', 'mac']))
    .option('--vlan <tags>', 'VLAN id, with a priority as 10:3, two tags as 100,10')
    .option('--count <n>', 'end after this many frames')
    .option('--duration <time>', 'end after this time: 10s, 500ms, 2m (default: until Ctrl-C)')
    .option('--threads <n>', 'threads that send at the same time (default: 1)')
    .option('--batch <n>', 'frames taken together in the kernel (default: 64)')
    .option('--src-mac <address>', 'source MAC address (default: 02:00:00:00:00:01)')
    .option('--dst-mac <address>', 'destination MAC address (default: 02:00:00:00:00:02)')
    .option('--src-ip <address>', 'source IPv4 address (default: 198.18.0.1)')
    .option('--dst-ip <address>', 'destination IPv4 address (default: 198.19.0.1)')
    .option('--src-port <port>', 'source UDP port (default: 1024)')
    .option('--dst-port <port>', 'destination UDP port (default: 9)')
    .option('--prepare', "turn GRO on at a veth's peer for the time of the run, where it is needed")
    .addHelpText(
      'after',
      `
Frames are UDP over IPv4 with a sequence number of their flow in the payload.

Examples:
  millrace generate --netdev eth1 --max --duration 10s
  millrace generate --netdev eth1 --pps 100k --flows 1000 --count 1M
  millrace generate --netdev eth1 --vlan 10:5 --size 1514 --duration 5s --json`,
    )
    .action(async (options: Options) => {
      const chosen = optionsOf(options);
      const { generate } = await import('../../bpf/index.ts');
      const told = process.stderr.isTTY === true && !cli.json;
      const onProgress = (sent: number, elapsedMs: number) =>
        process.stderr.write(`\r${count(sent)} frames, ${scaled((sent * 1000) / elapsedMs, 'pps')} \u001b[K`);
      const result = await untilInterrupted((signal) =>
        generate({ ...chosen, signal, ...(told ? { onProgress } : {}) }),
      );
      if (told) process.stderr.write('\r\u001b[K');
      cli.print(result, () => resultText(result));
    });
}
