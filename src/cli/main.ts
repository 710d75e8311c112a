/** The `millrace` command: puts the commands together, and turns whatever happens into a sentence and an exit code. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { defaultSocketPath, strangeAnswer } from '../daemon/client.ts';
import { Cli } from './cli.ts';
import { captureCommand } from './commands/capture.ts';
import { configCommand } from './commands/config.ts';
import { connectionsCommand } from './commands/connections.ts';
import { downCommand } from './commands/down.ts';
import { extensionCommand } from './commands/extension.ts';
import { fdbCommand } from './commands/fdb.ts';
import { generateCommand } from './commands/generate.ts';
import { offloadCommand } from './commands/offload.ts';
import { ovsCommand } from './commands/ovs.ts';
import { portCommand } from './commands/port.ts';
import { receiveCommand } from './commands/receive.ts';
import { injectCommand, traceCommand } from './commands/trace.ts';
import { upCommand } from './commands/up.ts';
import { dropsCommand, eventsCommand, statsCommand, statusCommand } from './commands/watch.ts';
import { EXIT_CODES, endingOf, formatEnding } from './exit.ts';

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function exitCodesText(): string {
  return Object.values(EXIT_CODES)
    .map(({ code, text }) => `  ${code}  ${text}\n`)
    .join('');
}

/** Throw instead of exiting, everywhere below a command. */
function configure(command: Command): void {
  command.exitOverride();
  command.configureHelp({ showGlobalOptions: true });
  command.showHelpAfterError('(--help says what the command takes)');
  for (const inner of command.commands) configure(inner);
}

function buildProgram(): { program: Command; cli: Cli } {
  const program = new Command('millrace')
    .description('a programmable virtual switch for Linux')
    .version(version(), '-V, --version', 'print the version')
    .option('--socket <path>', "the daemon's control socket (also: MILLRACE_SOCKET)")
    .option('--json', 'print JSON, for programs')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command, or `exit-codes`')
    .showSuggestionAfterError();
  const cli = new Cli(program);
  for (const command of [
    upCommand(cli),
    downCommand(cli),
    statusCommand(cli),
    portCommand(cli),
    extensionCommand(cli),
    fdbCommand(cli),
    connectionsCommand(cli),
    statsCommand(cli),
    dropsCommand(cli),
    captureCommand(cli),
    traceCommand(cli),
    injectCommand(cli),
    eventsCommand(cli),
    configCommand(cli),
    offloadCommand(cli),
    ovsCommand(cli),
    generateCommand(cli),
    receiveCommand(cli),
  ]) {
    program.addCommand(command);
  }
  program.addHelpText(
    'after',
    `
Examples:
  millrace up --daemon                     start a switch
  millrace port add eth1                   take over an interface
  millrace port add tap0 --kind tap        make a TAP and attach it
  millrace stats --watch
  millrace capture | wireshark -k -i -
  millrace down

Exit codes:
${exitCodesText()}`,
  );
  return { program, cli };
}

/** End the process once everything written has gone out. */
function finish(error: unknown, json: boolean): void {
  if (error instanceof CommanderError) {
    // Help and version were asked for; anything else commander has already explained.
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_CODES.USAGE.code;
    return;
  }
  if (process.env.MILLRACE_DEBUG !== undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  const ending = endingOf(error);
  const { exitCode, ...rest } = ending;
  process.stderr.write(json ? `${JSON.stringify({ error: rest })}\n` : formatEnding(ending));
  process.exitCode = exitCode;
}

/** The socket that a line to be completed names, else the one that the shell's own call names, else the usual one. */
function namedSocket(args: readonly string[]): string {
  const at = args.lastIndexOf('--socket');
  return at >= 0 && at + 1 < args.length ? args[at + 1] : defaultSocketPath();
}

/** Run one command line. @param args without `node` and the script */
export async function main(args: readonly string[]): Promise<void> {
  // Whoever reads our output may stop reading (head, less): that is a good end.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  if (args[0] === 'help' && args[1] === 'exit-codes') {
    process.stdout.write(exitCodesText());
    return;
  }
  const { program, cli } = buildProgram();
  const asking = args[args[0] === '--socket' ? 2 : 0] === 'complete';
  const completing = asking || args.includes('completion');
  try {
    if (completing) {
      const { addCompletion } = await import('./completion.ts');
      await addCompletion(program, asking ? namedSocket(args) : null);
    } else {
      // Only its name, for the list of commands: the library behind it is loaded when it is used.
      program
        .command('completion')
        .argument('<shell>', 'bash, zsh or fish')
        .description('print the script for completion in your shell');
    }
    configure(program);
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    // Commands read answers as this version's daemon gives them.
    finish(cli.hasSpoken && error instanceof TypeError ? strangeAnswer(null) : error, cli.json);
  } finally {
    cli.close();
  }
}
