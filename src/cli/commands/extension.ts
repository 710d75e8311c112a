/** `millrace extension`: the extension stack. */
import { Command } from 'commander';
import { type ExtensionInfo, loadConfigTools } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { count } from '../format.ts';
import { pairs, table } from '../table.ts';

function stackTable(stack: readonly ExtensionInfo[]): string {
  if (stack.length === 0) return 'The stack is empty; the switch forwards by itself.\n';
  return table(
    [
      { head: '#', align: 'right' },
      { head: 'EXTENSION' },
      { head: 'TYPE' },
      { head: 'STATE' },
      { head: 'FROM' },
      { head: 'WHY' },
    ],
    stack.map((extension, index) => [
      String(index + 1),
      extension.name,
      extension.type,
      extension.state,
      extension.module ?? 'built in',
      extension.error ?? extension.keeps ?? '',
    ]),
  );
}

function whole(text: string, what: string): number {
  if (!/^\d{1,3}$/.test(text) || Number(text) < 1)
    throw new CliError('USAGE', `"${text}" is not ${what}`, 'positions count from 1, at the top');
  return Number(text);
}

/** Settings of an extension: one JSON or YAML mapping, or KEY=VALUE words. */
async function configOf(words: readonly string[]): Promise<Record<string, unknown>> {
  const { parseSettings, parseMapping } = await loadConfigTools();
  return words.length === 1 && words[0].trimStart().startsWith('{') ? parseMapping(words[0]) : parseSettings(words);
}

/** `millrace extension ...` */
export function extensionCommand(cli: Cli): Command {
  const extension = new Command('extension')
    .alias('ext')
    .description('the extension stack: capturing, filtering, forwarding');
  const show = (stack: ExtensionInfo[]) => cli.print(stack, () => stackTable(stack));

  extension
    .command('list', { isDefault: true })
    .alias('ls')
    .description('the stack, from the top')
    .action(async () => show(await cli.call('extension.list', {})));

  extension
    .command('show')
    .argument('<extension>')
    .description('one extension: state, counters and what it says of itself')
    .action(async (name: string) => {
      const info = await cli.call('extension.show', { name });
      const { toYaml } = await loadConfigTools();
      cli.print(info, () => {
        const head = pairs([
          ['extension', info.name],
          ['type', info.type],
          ['from', info.module ?? 'built in'],
          ['state', [info.state, info.error ?? info.keeps].filter((part) => part !== null).join(': ')],
          ...Object.entries(info.counters).map(([key, value]) => [key, count(value)] as const),
        ]);
        return info.status === null ? head : `${head}status\n${toYaml(info.status).replace(/^(?=.)/gm, '  ')}`;
      });
    });

  extension
    .command('add')
    .argument('<extension>', 'a built-in (learning, capture, filter), or a name for your module')
    .argument('[settings...]', "the extension's settings as KEY=VALUE, or one mapping in braces")
    .description('put an extension into the stack')
    .option('-m, --module <file>', 'TypeScript or JavaScript module')
    .option('-p, --position <n>', 'place in the stack, 1 is the top')
    .addHelpText(
      'after',
      `
Examples:
  millrace extension add filter --position 1
  millrace extension add counter --module ./counter.ts limit=1000`,
    )
    .action(async (name: string, words: string[], options: { module?: string; position?: string }) => {
      const { resolve } = await import('node:path');
      const config = await configOf(words);
      const stack = await cli.call('extension.add', {
        name,
        ...(options.module === undefined ? {} : { module: resolve(options.module) }),
        ...(options.position === undefined ? {} : { position: whole(options.position, 'a position') }),
        ...(words.length === 0 ? {} : { config }),
      });
      show(stack);
    });

  for (const [verb, text] of [
    ['del', 'take an extension out of the stack'],
    ['enable', 'start an extension that is disabled or has crashed'],
    ['disable', 'stop an extension, keeping its place'],
  ] as const) {
    const command = extension
      .command(verb)
      .argument('<extension>')
      .description(text)
      .action(async (name: string) => show(await cli.call(`extension.${verb}`, { name })));
    if (verb === 'del') command.alias('rm');
  }

  extension
    .command('move')
    .argument('<extension>')
    .argument('<position>', '1 is the top')
    .description('change the order; capturing stays above filtering, and filtering above forwarding')
    .action(async (name: string, position: string) => {
      show(await cli.call('extension.move', { name, position: whole(position, 'a position') }));
    });

  extension
    .command('set')
    .argument('<extension>')
    .argument('<settings...>', 'KEY=VALUE, or one mapping in braces; they replace the settings before')
    .description('give an extension new settings')
    .action(async (name: string, words: string[]) => {
      show(await cli.call('extension.configure', { name, config: await configOf(words) }));
    });

  extension
    .command('run')
    .argument('<extension>')
    .argument('<command>', "a command of the extension's own")
    .argument('[arguments...]', 'KEY=VALUE, or one mapping in braces')
    .description("run an extension's own command")
    .action(async (name: string, command: string, words: string[]) => {
      const args = words.length === 0 ? null : await configOf(words);
      const result = await cli.call('extension.command', { name, command, args });
      const { toYaml } = await loadConfigTools();
      cli.print(result, () => toYaml(result));
    });
  return extension;
}
