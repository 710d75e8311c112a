/** Modules of users: what they may be written in, what they may import, where their errors are, and that old ones are given back. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as net from '../../net/index.ts';
import * as virtualSwitch from '../../switch/index.ts';
import { type LoadedExtension, loadExtensionModule } from './load-module.ts';

let folder: string;
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'millrace-modules-')));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

const load = (name: string): LoadedExtension => loadExtensionModule(join(folder, name));

/** An extension whose making gives a value. */
const gives = (value: string) => `
export default {
  descriptor: { name: 'x', type: 'filtering', version: '1' },
  create: () => (${value}),
};
`;

function givenBy(name: string): unknown {
  const { factory } = load(name);
  return (factory as unknown as { create(): unknown }).create();
}

/** Why it cannot be loaded, without the folder. */
function refusal(name: string): string {
  try {
    load(name);
    return 'it was loaded';
  } catch (error) {
    return (error as Error).message.replaceAll(`${folder}/`, '');
  }
}

test('rooms are those of the running process, whatever lies beside the file', async () => {
  write({
    'node_modules/millrace/package.json': '{"name": "millrace", "exports": {"./net": "./net.js"}}',
    'node_modules/millrace/net.js': 'export class Batch {}',
    'x.ts': `import { Batch } from 'millrace/net';
import * as room from 'millrace/switch';
import * as bpf from 'millrace/bpf';
${gives('[Batch, room.DropReason, typeof bpf.loadProgram]')}`,
  });
  expect(givenBy('x.ts')).toEqual([net.Batch, virtualSwitch.DropReason, 'function']);
  write({ 'y.ts': "import 'millrace/nets';" });
  expect(refusal('y.ts')).toMatch(
    /^cannot load the extension y.ts:1:8: there is no millrace\/nets; there are millrace\/net/,
  );
});

test('every room that the package exports can be imported', () => {
  const { exports } = createRequire(import.meta.url)('../../../package.json') as { exports: Record<string, unknown> };
  const rooms = Object.keys(exports).flatMap((name) => (name.endsWith('.json') ? [] : [name.slice(2)]));
  write({ 'x.ts': `${rooms.map((room) => `import 'millrace/${room}';`).join('\n')}\n${gives('7')}` });
  expect(rooms.length).toBeGreaterThan(5);
  expect(givenBy('x.ts')).toBe(7);
});

test('files import each other by any of the names that TypeScript knows, in circles too', async () => {
  write({
    'x.mts': `import { a } from './a.js';
import { b } from './lib/b';
import c from './c.mjs';
import d from './lib';
import json, { two } from './data.json' with { type: 'json' };
import { readFileSync } from 'fs';
import { join } from 'node:path';
${gives('[a(), b, c, d, json.one, two, typeof readFileSync, join("p", "q"), import.meta.filename, import.meta.dirname, import.meta.url]')}
export const here: number = 7;`,
    'a.ts': "import { here } from './x.mts';\nexport const a = (): number => here;",
    'lib/b.ts': 'export let b: string = "";\nb = "late";',
    'lib/index.ts': 'export default "index" as const;',
    'c.mts': 'export default 3 satisfies number;',
    'data.json': '{ "one": 1, "two": [2] }',
  });
  const path = join(folder, 'x.mts');
  const meta = [path, folder, `file://${path}`];
  expect(givenBy('x.mts')).toEqual([7, 'late', 3, 'index', 1, [2], 'function', 'p/q', ...meta]);
});

test('plain JavaScript is taken as it is, and so is CommonJS', async () => {
  write({
    'a.js': `import b from './b.cjs';\nimport { c } from './c.js';\n${gives('[b, c]')}`,
    'b.cjs':
      "const { c } = require('./c.js');\nmodule.exports = [c, typeof require('node:fs').readFileSync, __filename];",
    'c.js': "exports.c = 'common';",
    'd.js': "module.exports = { descriptor: { name: 'x', type: 'filtering', version: '1' }, create: () => 'd' };",
    'e.js': "exports.__esModule = true;\nexports.default = require('./d.js');",
  });
  expect(givenBy('a.js')).toEqual([['common', 'function', join(folder, 'b.cjs')], 'common']);
  expect(givenBy('d.js')).toBe('d');
  expect(givenBy('e.js')).toBe('d');
});

test('enums, namespaces, parameter properties, and types that are imported like values', async () => {
  write({
    'x.ts': `import { Kind, Shape } from './kinds.ts';
import { ExtensionFactory, DropReason } from 'millrace/switch';
namespace Names { export const one = 'n'; }
class Point { constructor(private readonly x: number, public y = 2) {} sum(): number { return this.x + this.y; } }
const shape: Shape = { kind: Kind.B };
const factory: ExtensionFactory = {
  descriptor: { name: 'x', type: 'filtering', version: '1' },
  create: () => [shape.kind, Kind[1], Names.one, new Point(1).sum(), DropReason.NONE] as never,
};
export default factory;`,
    'kinds.ts': 'export enum Kind { A, B }\nexport interface Shape { kind: Kind }',
    'plain.ts': `import { Shape } from './kinds.ts';\nconst shape: Shape = { kind: 1 };\n${gives('shape')}`,
  });
  expect(givenBy('x.ts')).toEqual([1, 'B', 'n', 3, 0]);
  expect(givenBy('plain.ts')).toEqual({ kind: 1 });
});

test('what is wrong is told with file, line and column of the source', async () => {
  write({
    'syntax.ts': 'const a = 1;\n  const b: = 2;\n',
    'end.ts': 'export default {',
    'syntax.js': 'import "node:fs";\nlet x = ;\n',
    'types.js': 'export const a = 1;\nconst b: number = 2;\n',
    'decorated.ts': 'export const dec = () => {};\nexport\n  @dec class A {}\n',
    'missing.ts':
      "import { Batch } from 'millrace/net';\nimport { Bach } from 'millrace/net';\nnew Bach();\nnew Batch();",
    'nowhere.ts': "\nimport './absent.ts';",
    'throws.ts': 'const n: number = 1;\nthrow new Error("too early");',
    'deep.ts': "import './thrower.ts';\nexport const a = 1;",
    'thrower.ts': 'enum A { B }\n\nfunction f(): void {\n    throw new TypeError("deep " + A.B);\n}\nf();',
    'data.ts': "import data from './data.json';\nexport default data;",
    'data.json': '{ "one": }',
    'waits.ts': 'export const a = await new Promise((resolve) => { globalThis.x = resolve; });',
    'text.ts': "throw 'a text';",
  });
  expect(refusal('syntax.ts')).toMatch(/^cannot load the extension syntax.ts:2:12: Unexpected token `=`/);
  expect(refusal('end.ts')).toMatch(/^cannot load the extension end.ts:1:17: Unexpected token `<eof>`/);
  expect(refusal('syntax.js')).toBe('cannot load the extension syntax.js:2:9: Unexpected token');
  expect(refusal('types.js')).toBe('cannot load the extension types.js:2:8: Unexpected token');
  expect(refusal('decorated.ts')).toBe('cannot load the extension decorated.ts:3:3: decorators are not supported');
  expect(refusal('missing.ts')).toBe('cannot load the extension missing.ts:2:10: millrace/net does not export Bach');
  expect(refusal('nowhere.ts')).toBe(
    'cannot load the extension nowhere.ts:2:8: there is no file absent.ts, which is imported as ./absent.ts',
  );
  expect(refusal('throws.ts')).toBe('cannot load the extension throws.ts:2:7: too early');
  expect(refusal('deep.ts')).toBe('cannot load the extension deep.ts: thrower.ts:4:11: deep 0');
  expect(refusal('data.ts')).toMatch(/^cannot load the extension data.ts: data.json: /);
  expect(refusal('waits.ts')).toBe(
    'cannot load the extension waits.ts:1:18: nothing may be awaited for at the top of a module',
  );
  expect(refusal('text.ts')).toBe('cannot load the extension text.ts: a text');
  expect(refusal('absent.ts')).toBe('cannot load the extension absent.ts: there is no file absent.ts');
});

test('places of errors that come later are those of the source', async () => {
  write({
    'x.ts': `enum Mode { Loud }
${gives('{\n    fail(): void { throw new Error("mode " + Mode.Loud); }\n  } as object')}`,
  });
  const { factory, files } = load('x.ts');
  const made = (factory as unknown as { create(): { fail(): void } }).create();
  const error = (() => {
    try {
      return made.fail();
    } catch (caught) {
      return caught;
    }
  })();
  expect(files.placeOf(error)).toEqual({ path: join(folder, 'x.ts'), line: 6, column: 26 });
  expect(files.stackOf(error)).toContain(`${folder}/x.ts:6:26`);
  expect(files.placeOf(new Error('ours'))).toBeNull();
  for (const odd of [
    null,
    'text',
    new Proxy(
      {},
      {
        get: () => {
          throw error;
        },
        getPrototypeOf: () => {
          throw error;
        },
      },
    ),
  ]) {
    expect(files.placeOf(odd)).toBeNull();
  }
});

test('an edited file is read anew, and so are those that it imports; state is new each time', async () => {
  const entry = `import { text } from './text.ts';\nlet made = 0;\n${gives('text + " " + (made += 1)')}`;
  write({ 'x.ts': entry, 'text.ts': "export const text: string = 'before';" });
  const first = load('x.ts');
  const create = (loaded: LoadedExtension) => (loaded.factory as unknown as { create(): string }).create();
  expect([create(first), create(first)]).toEqual(['before 1', 'before 2']);
  write({ 'text.ts': "export const text: string = 'after';" });
  expect(givenBy('x.ts')).toBe('after 1');
  expect(create(first)).toBe('before 3');
});

test('modules that are no longer used are collected, with what they hold', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  write({
    'x.ts': `import { big } from './big.ts';\nimport { Batch } from 'millrace/net';\n${gives('[big.length, new Batch(), () => import("./big.ts")]')}`,
    'big.ts': 'export const big: number[] = new Array(250_000).fill(1.5);',
  });
  const old: WeakRef<object>[] = [];
  for (let i = 0; i < 10; i += 1) old.push(new WeakRef(load('x.ts').factory));
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 60; i += 1) {
    old.push(new WeakRef(load('x.ts').factory));
    if (i % 20 === 0) {
      await setImmediate();
      collect();
    }
  }
  await setImmediate();
  collect();
  expect(old.filter((one) => one.deref() !== undefined).length).toBeLessThan(10);
  // 60 of them hold 120 MB.
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(50e6);
});

test('a module may import later, and fails later where that is wrong', async () => {
  write({
    'x.ts': `export const load = (name: string) => import(name);\n${gives('load')}`,
    'late.ts': 'export const late: string = "late";',
    'wrong.ts': 'export const wrong: = 1;',
  });
  const later = givenBy('x.ts') as (name: string) => Promise<{ late: string }>;
  expect((await later('./late.ts')).late).toBe('late');
  expect(await later('./late.ts')).toBe(await later('./late'));
  for (let i = 0; i < 2; i += 1) await expect(later('./wrong.ts')).rejects.toThrow('Unexpected token');
});

test('what a module exports may change, and whoever imports it sees that, also by way of others', () => {
  write({
    'x.ts': `import { count, more, swap, first, all } from './middle.ts';
import * as counter from './counter.ts';
more();
swap();
${gives('() => { more(); return [count, first, counter.count, all.count]; }')}`,
    'middle.ts':
      "export * from './counter.ts';\nexport { pair as first } from './counter.ts';\nexport * as all from './counter.ts';",
    'counter.ts': `export let count = 0;
export let pair = 'a';
let other = 'b';
export const more = () => { const was = count++; if (was === 5) count = 0; return was; };
export function swap() { const count = 100; [pair, other] = [other, pair]; return count; }`,
  });
  const look = givenBy('x.ts') as () => unknown;
  expect(look()).toEqual([2, 'b', 2, 2]);
  expect(look()).toEqual([3, 'b', 3, 3]);
});

test('all ways to export, and names that only look like others', () => {
  write({
    'x.ts': `import anonymous, { a, b, c, d, e, f, G, h as renamed } from './all.js';
import Named, { default as again } from './named.js';
import expression from './expression.js';
import * as everything from './all.js';
const shown = { a, renamed, Named: Named.name, again: again === Named, keys: Object.keys(everything).sort() };
${gives('[shown, b, c, d, e(), f(), new G().g, anonymous(), expression]')}`,
    'all.js': `#!/usr/bin/env node
export const a = 1, { b, x: [c, ...d] } = { b: 2, x: [3, 4, 5] }
export function e() { return 6 }
export async function* f2() {}
export const f = () => 'f'
export class G { g = 'g' }
const h = 'h'
export { h, h as 'a name' }
export default function () { return 'anonymous' }
;[1].forEach(() => {})`,
    'named.js': 'export default class Named {}\n(function () {})()',
    'expression.js': 'export default\n  (1, 2)\n',
  });
  const keys = ['G', 'a', 'a name', 'b', 'c', 'd', 'default', 'e', 'f', 'f2', 'h'];
  expect((givenBy('x.ts') as unknown[]).map((one) => (typeof one === 'function' ? String(one) : one))).toEqual([
    { a: 1, renamed: 'h', Named: 'Named', again: true, keys },
    ...[2, 3, [4, 5], 6, 'f', 'g', 'anonymous', 2],
  ]);
});

test('what is no extension is named', async () => {
  write({ 'x.ts': 'export const a = 1;', 'y.ts': 'export default { get descriptor() { throw new Error("trap"); } };' });
  expect(refusal('x.ts')).toBe('x.ts is not an extension: its default export has no "descriptor"');
  expect(refusal('y.ts')).toBe('y.ts is not an extension: looking at it fails: trap');
});
