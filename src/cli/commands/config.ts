/** `millrace config`: check a configuration, compare it, show the running one, print its schema. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { loadConfigTools, messageOf, readConfigText } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';

function readText(file: string): string {
  try {
    return readConfigText(file);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
    throw new CliError('USAGE', `cannot read ${file}: ${code}`, 'give the path of a millrace.yaml');
  }
}

function counted(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

/** `millrace config ...` */
export function configCommand(cli: Cli): Command {
  const config = new Command('config').description('configuration files');

  config
    .command('check')
    .argument('[file]', 'the file', 'millrace.yaml')
    .description('check a file without a daemon; says file, line, column and what is wrong')
    .action(async (file: string) => {
      const { parseConfig, ConfigError } = await loadConfigTools();
      try {
        const parsed = parseConfig(readText(file), file);
        const figures = { file, valid: true, ports: parsed.ports.size, extensions: parsed.extensions.length };
        cli.print(
          figures,
          () => `${file} is valid: ${counted(figures.ports, 'port')}, ${counted(figures.extensions, 'extension')}.\n`,
        );
      } catch (error) {
        if (!(error instanceof ConfigError) || !cli.json) throw error;
        process.stdout.write(`${JSON.stringify({ file, valid: false, issues: error.issues }, null, 2)}\n`);
        process.exitCode = 2;
      }
    });

  config
    .command('schema')
    .description('the JSON schema of millrace.yaml, for editors')
    .action(async () => {
      const { jsonSchemaText } = await loadConfigTools();
      process.stdout.write(jsonSchemaText());
    });

  config
    .command('show')
    .description('what the daemon runs now, as a file')
    .action(async () => {
      const running = await cli.call('config.show', {});
      const { toYaml } = await loadConfigTools();
      cli.print(running, () => toYaml(running));
    });

  config
    .command('diff')
    .argument('[file]', 'the file', 'millrace.yaml')
    .description('what `up` with this file would change')
    .action(async (file: string) => {
      const result = await cli.call('config.diff', { file: resolve(file), text: readText(file) });
      cli.print(result, () =>
        result.steps.length === 0 ? 'Nothing would change.\n' : result.steps.map((step) => `${step}\n`).join(''),
      );
    });
  return config;
}
