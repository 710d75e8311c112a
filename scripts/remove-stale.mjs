/**
 * Run behind the compiler: what lies in dist/ and is made by no source any more is removed, so that it does not ship. The compiler only adds.
 * Usage: node scripts/remove-stale.mjs [dist]
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

const dist = resolve(process.argv[2] ?? 'dist');
const told = join(dist, '.tsbuildinfo');
if (!existsSync(told)) {
  console.error(`${told} is not there: nothing tells what dist/ was made of, and nothing is removed`);
  process.exit(0);
}
/** What the compiler says that it has read, relative to dist/. */
const { fileNames } = JSON.parse(readFileSync(told, 'utf8'));
const sources = resolve(dist, '../src');
const made = new Set(fileNames.map((name) => relative(sources, resolve(dist, name)).replace(/\.ts$/, '')));
for (const path of readdirSync(dist, { recursive: true })) {
  const stem = path.replace(/\.(?:js|js\.map|d\.ts)$/, '');
  if (stem !== path && !made.has(stem)) rmSync(join(dist, path));
}
