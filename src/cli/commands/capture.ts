/** `millrace capture`: packets of the switch, as pcapng for other programs or as lines for people. */
import { createWriteStream, type WriteStream } from 'node:fs';
import { Command } from 'commander';
import type { CapturedPacket, CaptureEnd, Client } from '../../daemon/client.ts';
import { CaptureTally } from '../capture-tally.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { clock, count } from '../format.ts';
import { printable } from '../table.ts';

interface CaptureOptions {
  write?: string;
  snaplen?: string;
  count?: string;
  filter?: string;
}

function whole(text: string | undefined, what: string, minimum: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < minimum)
    throw new CliError('USAGE', `"${text}" is not ${what}`, `give a whole number from ${minimum} on`);
  return value;
}

/** Ends a stream: the daemon then sends what is left and closes. A second Ctrl-C does not wait for that. */
function endOnSignals(stop: () => void): void {
  let asked = false;
  const onSignal = () => {
    if (asked) process.exit(130);
    asked = true;
    stop();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
}

/**
 * Write a capture as pcapng until it ends.
 * @param tally counts what it holds
 * @returns why not all of it could be written; null when it was. Whoever reads a pipe and has enough is no reason.
 */
async function captureBytes(
  client: Client,
  params: object,
  out: WriteStream | NodeJS.WriteStream,
  tally: CaptureTally,
): Promise<NodeJS.ErrnoException | null> {
  let problem: NodeJS.ErrnoException | null = null;
  const socket = await client.stream('capture', { ...params, format: 'pcapng' }, (bytes) => {
    if (problem !== null) return;
    tally.push(bytes);
    if (!out.write(bytes)) {
      socket.pause();
      out.once('drain', () => socket.resume());
    }
  });
  out.on('error', (error: NodeJS.ErrnoException) => {
    problem ??= error;
    socket.resume();
    socket.destroy();
  });
  endOnSignals(() => socket.end());
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  // What is still on its way to the file may fail, too. Standard output is not ours to end.
  if (out !== process.stdout && problem === null) await new Promise<void>((resolve) => out.end(() => resolve()));
  return problem !== null && (problem as NodeJS.ErrnoException).code === 'EPIPE' ? null : problem;
}

async function captureLines(cli: Cli, client: Client, params: object): Promise<CaptureEnd | null> {
  let rest = '';
  let end: CaptureEnd | null = null;
  const onLine = (line: string) => {
    const packet = JSON.parse(line) as CapturedPacket | CaptureEnd;
    if ('end' in packet) {
      end = packet;
      return;
    }
    const arrow = packet.direction === 'in' ? '>' : '<';
    const text = cli.json ? line : `${clock(packet.timeMs)} ${packet.port} ${arrow} ${printable(packet.summary)}`;
    process.stdout.write(`${text}\n`);
  };
  const socket = await client.stream('capture', { ...params, format: 'json' }, (bytes) => {
    const lines = (rest + bytes.toString('utf8')).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  endOnSignals(() => socket.end());
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return end;
}

/** `millrace capture` */
export function captureCommand(cli: Cli): Command {
  return new Command('capture')
    .argument('[ports...]', 'all when none is named')
    .description('capture packets: lines on a terminal, pcapng into a file or a pipe')
    .option('-w, --write <file>', 'write pcapng to this file; - is standard output')
    .option('-s, --snaplen <bytes>', 'keep only this much of each packet')
    .option('-c, --count <n>', 'end after this many packets')
    .option('-f, --filter <expression>', 'only packets that match, such as "tcp and port 80"')
    .addHelpText(
      'after',
      `
Filters are a small part of what tcpdump knows: host, src, dst, net, port, portrange, proto, ether, vlan [ID], and ip, ip6, arp,
icmp, icmp6 (or icmpv6), tcp, udp, sctp; combined with and, or, not and parentheses.

Examples:
  millrace capture | wireshark -k -i -
  millrace capture web -w web.pcapng --count 1000
  millrace capture --filter "host 10.0.0.1 and not port 22"`,
    )
    .action(async (ports: string[], options: CaptureOptions) => {
      const snapLengthBytes = whole(options.snaplen, 'a length in bytes', 64);
      const limit = whole(options.count, 'a count', 1);
      const params = {
        ports,
        ...(snapLengthBytes === undefined ? {} : { snapLengthBytes }),
        ...(limit === undefined ? {} : { count: limit }),
        ...(options.filter === undefined ? {} : { filter: options.filter }),
      };
      const toTerminal = options.write === undefined && (process.stdout.isTTY === true || cli.json);
      const client = await cli.connect();
      if (toTerminal) {
        const end = await captureLines(cli, client, params);
        if (end === null) throw new CliError('FAILED', 'the daemon ended the capture');
        process.stderr.write(`${count(end.packets)} packets captured, ${count(end.dropped)} lost\n`);
        return;
      }
      const { write } = options;
      const tally = new CaptureTally();
      if (write === undefined || write === '-') {
        const problem = await captureBytes(client, params, process.stdout, tally);
        if (problem !== null) throw notWritten('the capture', problem);
        if (tally.lost > 0)
          process.stderr.write(`${count(tally.packets)} packets captured, ${count(tally.lost)} lost\n`);
        return;
      }
      const file = createWriteStream(write);
      await new Promise<void>((resolve, reject) => {
        file.once('open', () => resolve());
        file.once('error', (error: NodeJS.ErrnoException) => reject(notWritten(write, error)));
      });
      const problem = await captureBytes(client, params, file, tally);
      if (problem !== null) {
        throw notWritten(
          write,
          problem,
          `the capture was ended; the file holds its first ${count(file.bytesWritten)} bytes`,
        );
      }
      const held = `${count(tally.packets)} packets, ${count(tally.lost)} lost`;
      process.stderr.write(`${count(file.bytesWritten)} bytes written to ${write}: ${held}\n`);
    });
}

function notWritten(what: string, error: NodeJS.ErrnoException, hint: string | null = null): CliError {
  return new CliError('FAILED', `cannot write ${what}: ${error.code ?? error.message}`, hint);
}
