/**
 * What ships: every source that is compiled into dist/ is reached from a door, that is from what package.json names, from the door of a room, or from a
 * program; so rigs and fixtures of tests stay out. And what npm packs has every door, and nothing that only tests use.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { ROOT, textOf } from './files.ts';

/** Sources that are programs. */
const PROGRAMS = ['src/cli/main.ts', 'src/lab/main.ts'];
/** What only tests use, wherever it lies. */
const RIG = /\.test\.ts$|(?:^|\/)(?:testing|fixtures)(?:\/|$)|(?:^|\/)testing[^/]*\.ts$/;

/** Sources that a configuration of the compiler names, those that they import not counted. */
function namedBy(configuration: string): string[] {
  const path = join(ROOT, configuration);
  const { config } = ts.readConfigFile(path, ts.sys.readFile);
  const { fileNames } = ts.parseJsonConfigFileContent(config, ts.sys, ROOT, undefined, path);
  return fileNames.map((name) => name.slice(ROOT.length + 1));
}

/** A source that is started as a thread, by its name. */
const THREAD = /'(\.\/[\w-]+\.ts)' : '\.\/[\w-]+\.js'/g;

/** Sources that a source imports, types included, and those that it starts as threads. */
function importsOf(path: string): string[] {
  const text = textOf(path);
  const { importedFiles } = ts.preProcessFile(text, true, true);
  const names = [
    ...importedFiles.map(({ fileName }) => fileName),
    ...[...text.matchAll(THREAD)].map(([, name]) => name),
  ];
  return names.filter((name) => name.startsWith('.')).map((name) => join(dirname(path), name));
}

/** Everything that is reached from some sources. */
function reachedFrom(doors: Iterable<string>): Set<string> {
  const reached = new Set(doors);
  for (const path of reached) for (const imported of importsOf(path)) reached.add(imported);
  return reached;
}

const shipped = namedBy('tsconfig.build.json');
const reached = reachedFrom([...PROGRAMS, ...shipped.filter((path) => path.endsWith('/index.ts'))]);

test('all that is compiled into dist is reached from a door', () => {
  expect(shipped.filter((path) => !reached.has(path))).toEqual([]);
});

test('nothing that ships imports what only tests use', () => {
  expect([...reached].filter((path) => RIG.test(path))).toEqual([]);
  expect(shipped.filter((path) => RIG.test(path))).toEqual([]);
});

test('benchmarks are compiled with the sources that ship, and with no rig that needs what tests run by', () => {
  const compiled = namedBy('tsconfig.bench.json');
  expect(compiled.filter((path) => path.startsWith('src/')).sort()).toEqual([...shipped].sort());
  const rigs = [...reachedFrom(compiled)].filter((path) => RIG.test(path));
  expect(rigs.filter((path) => /from '(?:vitest|fast-check)'/.test(textOf(path)))).toEqual([]);
});

test('what npm packs names every door, and no rigs of the sources', () => {
  const answer = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  const [{ files }] = JSON.parse(answer) as [{ files: { path: string }[] }];
  const packed = files.map(({ path }) => path);
  const { bin, exports } = JSON.parse(textOf('package.json')) as {
    bin: Record<string, string>;
    exports: Record<string, string | Record<string, string>>;
  };
  const doors = [
    ...Object.values(bin),
    ...Object.values(exports).flatMap((door) => (typeof door === 'string' ? [door] : Object.values(door))),
  ];
  for (const door of doors.map((path) => path.replace(/^\.\//, ''))) {
    // dist/ may be older than its sources here: what it will hold is known by them.
    const source = /^dist\/(.*)\.(?:js|d\.ts)$/.exec(door)?.[1];
    if (source === undefined) expect(packed).toContain(door);
    else expect(shipped).toContain(`src/${source}.ts`);
  }
  expect(packed.some((path) => path.startsWith('dist/'))).toBe(existsSync(join(ROOT, 'dist')));
  // The examples ship with their tests, which show how one tests an extension.
  expect(packed.filter((path) => !/^(?:dist|examples)\//.test(path) && RIG.test(path))).toEqual([]);
  expect(packed.filter((path) => /^(?:src|test|bench|scripts|docs)\//.test(path))).toEqual([]);
});

test('what a source has left in dist goes when the source does', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-dist-'));
  try {
    const dist = join(folder, 'dist');
    mkdirSync(join(dist, 'net'), { recursive: true });
    for (const name of ['net/kept.js', 'net/kept.d.ts', 'net/gone.js', 'net/gone.js.map', 'net/gone.d.ts', '.built'])
      writeFileSync(join(dist, name), '');
    writeFileSync(join(dist, '.tsbuildinfo'), JSON.stringify({ fileNames: ['../src/net/kept.ts'] }));
    execFileSync(process.execPath, [join(ROOT, 'scripts/remove-stale.mjs'), dist]);
    expect(readdirSync(dist).sort()).toEqual(['.built', '.tsbuildinfo', 'net']);
    expect(readdirSync(join(dist, 'net')).sort()).toEqual(['kept.d.ts', 'kept.js']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
