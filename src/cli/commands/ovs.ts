/** `millrace ovs`: Open vSwitch's own programs on a Millrace datapath, and its datapath without them. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { Command } from 'commander';
import { type BuiltinStatus, DaemonNotRunning, Failure, OPEN_VSWITCH } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { dpctlCommand } from '../ovs/dpctl.ts';
import { findProgram, ovsFolders, runningProgram, shimEnvironment } from '../ovs/programs.ts';
import { checkStart, type Stopped, startPrograms, stopPrograms } from '../ovs/start.ts';
import { findRunning } from '../running.ts';

const DEFAULT_PSEUDO_DEVICE = '/run/millrace/ovs-netlink.sock';

type OvsStatus = BuiltinStatus['ovs'];

/** Connect to the daemon, starting one in the background when none runs. @returns what was done */
async function ensureDaemon(cli: Cli, file: string | undefined): Promise<boolean> {
  if ((await findRunning(cli, cli.socketPath)) !== null) return false;
  const args = [...process.execArgv, process.argv[1], '--socket', cli.socketPath, 'up', '--daemon'];
  if (file !== undefined) args.push('-f', file);
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  if (code !== 0) throw new CliError('FAILED', 'the daemon did not start');
  return true;
}

/** The pseudo device of the running daemon. @throws DaemonNotRunning, Failure when the extension is not there */
async function pseudoDevice(cli: Cli): Promise<OvsStatus> {
  const { status } = await cli.call('extension.show', { name: OPEN_VSWITCH });
  if (status === null)
    throw new CliError('REFUSED', `the extension ${OPEN_VSWITCH} is not running`, 'start it: millrace ovs start');
  return status as OvsStatus;
}

/** Where the extension of a running daemon listens, or where it will when one is started. */
async function runningPseudoDevice(cli: Cli): Promise<string> {
  try {
    return (await pseudoDevice(cli)).socket;
  } catch (error) {
    if (error instanceof DaemonNotRunning || error instanceof Failure || error instanceof CliError) {
      return DEFAULT_PSEUDO_DEVICE;
    }
    throw error;
  }
}

/** What `stop` has done, and what becomes of flows that it could not take away. */
function stoppedText({ ended, hadDatapath }: Stopped, keepFlows: boolean): string {
  if (ended.length === 0) return 'Nothing was running.\n';
  const done = `Ended ${ended.join(' and ')}.\n`;
  if (hadDatapath) return done;
  const cause = keepFlows ? '' : ', so that nothing was taken away';
  return `${done}No daemon serves the datapath${cause}: what was left in the kernel goes on until the next \`millrace ovs start\` or \`millrace up\`; \`millrace down\` removes it.\n`;
}

/** `millrace ovs ...` */
export function ovsCommand(cli: Cli): Command {
  const ovs = new Command('ovs').description("Open vSwitch's own programs on a Millrace datapath");

  ovs
    .command('start')
    .option('-f, --file <file>', 'configuration for the daemon, when it has to be started')
    .option('--pseudo-device <path>', `socket for programs under the shim; ${DEFAULT_PSEUDO_DEVICE} when not given`)
    .description('start the daemon, ovsdb-server and ovs-vswitchd, whichever does not run; bridges are as they were')
    .action(async (options: { file?: string; pseudoDevice?: string }) => {
      checkStart(options.pseudoDevice ?? (await runningPseudoDevice(cli)));
      const startedDaemon = await ensureDaemon(cli, options.file);
      const given = options.pseudoDevice === undefined ? {} : { socket: options.pseudoDevice };
      const status = (await cli.call('ovs.enable', given)) as OvsStatus;
      checkStart(status.socket);
      const hasFlows = status.datapaths.some(({ flows }) => flows > 0);
      const started = await startPrograms(status.socket, status.connections > 0, hasFlows);
      const steps = [...(startedDaemon ? ['started the daemon'] : []), ...started.steps];
      cli.print({ ...started, steps }, () => {
        const done = steps.length === 0 ? 'Everything was running.' : `${capitalised(steps.join(', '))}.`;
        const bridges =
          started.bridges.length === 0
            ? 'There are no bridges yet: ovs-vsctl add-br br0'
            : `Bridges: ${started.bridges.join(', ')}`;
        return `Open vSwitch runs on Millrace. ${done}\n${bridges}\n`;
      });
    });

  ovs
    .command('stop')
    .option('--keep-flows', 'leave the datapath with its ports and flows as it is: traffic goes on')
    .description('end ovs-vswitchd and ovsdb-server; the daemon stays')
    .action(async (options: { keepFlows?: boolean }) => {
      // One that was killed just now seems to be there for a moment.
      await findRunning(cli, cli.socketPath);
      const stopped = await stopPrograms(options.keepFlows === true);
      cli.print(stopped, () => stoppedText(stopped, options.keepFlows === true));
    });

  ovs
    .command('status')
    .description('what runs, and what was lost on the way to programs')
    .action(async () => {
      const status = await pseudoDevice(cli);
      const folders = ovsFolders();
      const programs = Object.fromEntries(
        ['ovsdb-server', 'ovs-vswitchd'].map((name) => [name, runningProgram(name, folders)?.pid ?? null]),
      );
      cli.print({ ...status, programs }, () =>
        [
          `pseudo device  ${status.socket}, ${status.connections} sockets of programs\n`,
          ...Object.entries(programs).map(([name, pid]) => `${name.padEnd(15)}${pid === null ? '-' : `pid ${pid}`}\n`),
          ...status.datapaths.map(
            (one) => `datapath       ${one.name}: ${one.ports.length} ports, ${one.flows} flows\n`,
          ),
          ...Object.entries(status.losses)
            .filter(([, count]) => count > 0)
            .map(([name, count]) => `lost           ${name}: ${count}\n`),
        ].join(''),
      );
    });

  ovs
    .command('exec')
    .argument('<program>')
    .argument('[args...]')
    .description(
      'run a program of Open vSwitch that speaks to the datapath itself: millrace ovs exec -- ovs-dpctl show',
    )
    .action(async (program: string, args: string[]) => {
      const { socket } = await pseudoDevice(cli);
      cli.close();
      const path = findProgram(program);
      if (path === null) throw new CliError('FAILED', `there is no program ${program}`);
      const child = spawn(path, args, { stdio: 'inherit', env: shimEnvironment(socket) });
      // The terminal sends its signals to both: the program decides what they mean.
      for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, () => undefined);
      for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
      process.exitCode = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL']));
      });
    });

  ovs.addCommand(dpctlCommand(cli));
  return ovs;
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
