/** Modules of users under a daemon: packages, edits while it runs, and errors with their places in the TypeScript that people wrote. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DaemonEvent, ExtensionInfo } from '../src/daemon/client.ts';
import { until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
});
afterEach(() => world.end());

const extension = () => world.json<ExtensionInfo[]>('extension', 'list').find(({ name }) => name === 'mine');
const status = () => world.json<{ status: unknown }>('extension', 'show', 'mine').status;

/** An extension in two files, with an enum, two packages beside it and a file of data. */
function write(limit: number): string {
  for (const name of ['modern', 'classic']) mkdirSync(join(world.folder, 'node_modules', name), { recursive: true });
  world.file(
    'node_modules/modern/package.json',
    '{ "name": "modern", "type": "module", "exports": { "import": "./m.js" } }',
  );
  world.file(
    'node_modules/modern/m.js',
    "import { Batch } from 'millrace/net';\nexport const knows = (batch) => batch instanceof Batch;",
  );
  world.file('node_modules/classic/package.json', '{ "name": "classic", "main": "c.js" }');
  world.file('node_modules/classic/c.js', "exports.word = 'classic';");
  world.file('limits.json', `{ "most": ${limit} }`);
  world.file(
    'limits.ts',
    `import { type Batch } from 'millrace/net';
import { knows } from 'modern';
import limits from './limits.json' with { type: 'json' };

export enum Verdict { Fine, TooMany }

export function judge(seen: number, batch: Batch): Verdict {
  if (!knows(batch)) throw new TypeError('this is another net room than the switch has');
  if (seen > limits.most) {
    throw new RangeError(\`\${Verdict[Verdict.TooMany]}: \${limits.most}\`);
  }
  return Verdict.Fine;
}
`,
  );
  return world.file(
    'mine.ts',
    `import { word } from 'classic';
import { Batch } from 'millrace/net';
import { ExtensionFactory } from 'millrace/switch';
import { judge } from './limits.js';

const factory: ExtensionFactory = {
  descriptor: { name: 'mine', type: 'filtering', version: '1.0.0' },
  create(handle) {
    let seen = 0;
    return {
      onIngress(batch: Batch, flags: number): void {
        seen += batch.count;
        judge(seen, batch);
        handle.sendIngress(batch, flags);
      },
      status: () => ({ word, seen: seen > 0 }),
    };
  },
};
export default factory;
`,
  );
}

test('a module of several files and packages runs, crashes with its place named, and runs again when it is mended', async () => {
  const module = write(20);
  world.up('ports: { a: {}, b: {} }\n');
  const pid = world.pid();
  world.ok('extension', 'add', 'mine', '--module', module);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(status()).toEqual({ word: 'classic', seen: true });
  const ping = world.spawn('ip', ['netns', 'exec', world.namespace('a'), 'ping', '-i', '0.005', '10.9.0.2']);
  await until('it has crashed', () => extension()?.state === 'crashed');
  ping.kill();
  const place = `(${join(world.folder, 'limits.ts')}:10:11)`;
  expect(extension()?.error).toBe(`onIngress: TooMany: 20 ${place}`);
  const crashed = world.json<DaemonEvent[]>('events').filter(({ type }) => type === 'extension-crashed');
  expect(crashed.map(({ message }) => message)).toEqual([expect.stringContaining(`TooMany: 20 ${place}`)]);

  // Only a file that the module imports has changed.
  world.file('limits.json', '{ "most": 1000000 }');
  world.ok('extension', 'enable', 'mine');
  expect(world.pings('a', '10.9.0.2', 30)).toBe(true);
  expect(extension()).toMatchObject({ state: 'running', error: null });

  // A mistake leaves the switch as it is, and is found by file, line and column.
  world.file('limits.ts', 'export const judge = (): void => {\n  const x: = 1;\n};\n');
  world.ok('extension', 'disable', 'mine');
  const refused = world.millrace('extension', 'enable', 'mine');
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining(`${world.folder}/limits.ts:2:12: `)]);
  expect(extension()?.state).toBe('disabled');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(world.pid()).toBe(pid);
});
