/**
 * Files that comments and pages name are there. A comment names a file beside its own, or with the path from one of the folders that its own is in, or
 * from src/; or it says in which room the file is (`mtu.ts of net/`). A page may name any file and any folder below its own by the end of its path, and what its
 * examples are about.
 */
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { filesBelow, lineAt, textOf } from './files.ts';

const ALL = filesBelow('', '');
const FILES = new Set(ALL);
const FOLDERS = new Set(ALL.flatMap((path) => foldersOf(path)));
const SOURCES = ['src', 'test', 'bench', 'examples'].flatMap((folder) => filesBelow(folder, '.ts'));
/** CHANGELOG.md tells of what was. */
const PAGES = filesBelow('', '.md').filter((path) => path !== 'CHANGELOG.md');

const COMMENT = /\/\*.*?\*\/|(?<![:'"`\w])\/\/[^\n]*/gs;
const FENCED = /^ *```.*?^ *```$/gms;
/** A name that begins with a dot, a star, a dash or a brace is a pattern or an ending, and one behind a slash is part of a longer one. */
const NAME = /(?<![\w./*{}-])((?:\.{1,2}\/)*(?:[\w-][\w.-]*\/)*[\w-][\w.-]*\.(?:ts|mjs|md))\b(?: of ([\w/]+)\/)?/g;
const FOLDER = /`((?:[\w-]+\/)+)`/g;
/** Places that are not of this tree: what users write, what programs make, rooms that are to come. */
const ELSEWHERE = ['node_modules', 'dist', 'prebuilt', 'build', 'tables', 'sync', 'web'];

/** The folder of a file and those that it is in, up to the top. */
function foldersOf(path: string): string[] {
  const folders: string[] = [];
  for (let folder = dirname(path); folder !== '.'; folder = dirname(folder)) folders.push(folder);
  return [...folders, ''];
}

function isElsewhere(name: string): boolean {
  return name.split('/').some((part) => ELSEWHERE.includes(part));
}

function endsIn(all: Iterable<string>, folder: string, name: string): boolean {
  const ending = `/${name.replace(/^(?:\.{1,2}\/)+/, '')}`;
  for (const path of all) if (path.startsWith(folder) && `/${path}`.endsWith(ending)) return true;
  return false;
}

/** Names of files in comments of a source that no file has. */
function missingInComments(path: string, text: string): string[] {
  const missing: string[] = [];
  for (const comment of text.matchAll(COMMENT)) {
    for (const found of comment[0].matchAll(NAME)) {
      const [, name, room] = found;
      const from = [...foldersOf(path), 'src'];
      const isThere =
        room === undefined
          ? from.some((folder) => FILES.has(join(folder, name)))
          : endsIn(FILES, `src/${room}/`, name) || endsIn(FILES, `${dirname(path)}/${room}/`, name);
      if (isThere || isElsewhere(name)) continue;
      missing.push(`${path}:${lineAt(text, comment.index + found.index)}: ${name}`);
    }
  }
  return missing;
}

/** Names of files and folders in a page, its examples left out, that nothing has. */
function missingInPage(path: string, whole: string): string[] {
  const examples = [...whole.matchAll(FENCED)].join('\n');
  const text = whole.replaceAll(FENCED, (block) => block.replaceAll(/[^\n]/g, ''));
  // Pages of docs/ are about the whole tree.
  const own = path.startsWith('docs/') ? '' : foldersOf(path)[0];
  const missing: string[] = [];
  const look = (pattern: RegExp, isThere: (name: string) => boolean) => {
    for (const found of text.matchAll(pattern)) {
      const name = found[1].replace(/\/$/, '');
      if (!isThere(name) && !isElsewhere(name) && !examples.includes(name))
        missing.push(`${path}:${lineAt(text, found.index)}: ${name}`);
    }
  };
  const from = [...foldersOf(path), 'src'];
  look(NAME, (name) => from.some((folder) => FILES.has(join(folder, name))) || endsIn(FILES, own, name));
  look(FOLDER, (name) => from.some((folder) => FOLDERS.has(join(folder, name))) || endsIn(FOLDERS, own, name));
  return missing;
}

test('comments name files that are there', () => {
  expect(SOURCES.flatMap((path) => missingInComments(path, textOf(path)))).toEqual([]);
});

test('pages name files and folders that are there', () => {
  expect(PAGES.flatMap((path) => missingInPage(path, textOf(path)))).toEqual([]);
});

test('a file that is named and not there is found, with its line', () => {
  // Not written out, as this file is looked at as well.
  const [begin, line] = ['/'.concat('**'), '/'.concat('/')];
  const text = `${begin} Neighbours: api.ts, gone.ts. */\nconst a = 'x.ts';\n${line} See dissect.ts of net/, and port.ts of net/.\n`;
  expect(missingInComments('src/switch/a.ts', text)).toEqual([
    'src/switch/a.ts:1: gone.ts',
    'src/switch/a.ts:3: port.ts',
  ]);
  const page = '`vlan.ts` in `policies/`, `vlan.ts` in `nowhere/`\n```\nmine.ts\n```\nlost.ts\n';
  expect(missingInPage('src/switch/README.md', page)).toEqual([
    'src/switch/README.md:5: lost.ts',
    'src/switch/README.md:1: nowhere',
  ]);
});
