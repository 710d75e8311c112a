/** Files of this tree, for the tests about the tree itself. Paths are from its top, with slashes. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The top of the tree. */
export const ROOT = join(import.meta.dirname, '../..');
/** What is made, not written. */
const MADE = ['node_modules', 'dist', 'dist-bench', 'dist-docs', 'coverage', '.git'];

/** Files below a folder, or the whole tree, in order. @param ending of their names */
export function filesBelow(folder: string, ending: string): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) {
      if (!MADE.includes(entry.name)) found.push(...filesBelow(path, ending));
    } else if (entry.name.endsWith(ending)) found.push(path);
  }
  return found.sort();
}

/** The text of a file. */
export function textOf(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** The number of the line in which a place of a text is, from 1 on. */
export function lineAt(text: string, place: number): number {
  return text.slice(0, place).split('\n').length;
}
