/**
 * The YAML that people read is what the daemon takes. A fenced block is a whole configuration; one that is a piece of one says in its first line below what
 * it stands: `# below ports.web:`.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Config } from '../../src/daemon/config/model.ts';
import { parseConfig } from '../../src/daemon/config/parse.ts';
import type { ExtensionFactory } from '../../src/switch/index.ts';
import { filesBelow, lineAt, ROOT, textOf } from './files.ts';

const FENCED = /^( *)```ya?ml\n(.*?)^ *```$/gms;
const PIECE = /^# below ([\w.-]+):\n/;
const MODULE = /\bmodule: (?:\.\/)?([\w-]+\.ts)/g;

/** Where blocks are read: modules that they name are there. */
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-yaml-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The configuration of a block, without the margin that it has in its page. */
function wholeOf(block: string, margin: string): string {
  const text = block.replaceAll(new RegExp(`^${margin}`, 'gm'), '');
  const [line, path] = PIECE.exec(text) ?? ['', ''];
  if (path === '') return text;
  const steps = path.split('.');
  const heads = steps.map((step, depth) => `${'  '.repeat(depth)}${step}:\n`).join('');
  return heads + text.slice(line.length).replaceAll(/^(?=.)/gm, '  '.repeat(steps.length));
}

/** Blocks of a page, with the line in which each begins. */
function blocksOf(page: string): { readonly text: string; readonly line: number }[] {
  return [...page.matchAll(FENCED)].map((found) => ({
    text: wholeOf(found[2], found[1]),
    line: lineAt(page, found.index),
  }));
}

function parseBlock(text: string, name: string): Config {
  for (const [, module] of text.matchAll(MODULE)) writeFileSync(join(folder, module), '');
  return parseConfig(text, join(folder, name));
}

const BLOCKS = filesBelow('', '.md').flatMap((path) =>
  blocksOf(textOf(path)).map(({ text, line }) => ({ place: `${path}:${line}`, text })),
);

test.each(BLOCKS)('the YAML of $place is a configuration', ({ place, text }) => {
  parseBlock(text, place.replaceAll('/', '-'));
});

const FILES = filesBelow('examples', '.yaml');

test.each(FILES)('%s is a configuration, with settings that its extensions take', async (path) => {
  const file = join(ROOT, path);
  const config = parseConfig(readFileSync(file, 'utf8'), file);
  for (const { module, config: settings } of config.extensions) {
    if (module === null) continue;
    const { default: factory } = (await import(resolve(dirname(file), module))) as { default: ExtensionFactory };
    factory.parseConfiguration?.(settings);
  }
});

test('there are blocks and files to look at', () => {
  expect(BLOCKS.map(({ place }) => place.split(':')[0])).toContain('docs/guide.md');
  expect(FILES).toContain('examples/ovs/millrace.yaml');
});

test('a block that the daemon would refuse fails, and so does one with settings that an extension refuses', () => {
  const page = '1. A step\n\n   ```yaml\n   ports:\n     web: { vlan: { mode: acess, id: 1 } }\n   ```\n';
  const [{ text, line }] = blocksOf(page);
  expect(line).toBe(3);
  expect(() => parseBlock(text, 'page')).toThrow('ports.web.vlan.mode: must be access, trunk or private');
  const learning = 'extensions:\n  - { name: learning, config: { idle: 1 } }\n';
  expect(() => parseBlock(learning, 'page')).toThrow('idle');
});

test('a piece stands where its first line says', () => {
  const [{ text }] = blocksOf('```yaml\n# below ports.web:\nvlan: { mode: access, id: 10 }\ndhcpGuard: true\n```\n');
  expect(parseBlock(text, 'page').ports.get('web')).toMatchObject({ vlan: { id: 10 }, dhcpGuard: true });
});
