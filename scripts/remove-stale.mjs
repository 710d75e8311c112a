/**
 * Run behind the compiler: what lies in dist/ and is made by no source any more is removed, so that it does not ship. The compiler only adds.
 * Usage: node scripts/remove-stale.mjs [dist]
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

const dist = resolve(process.argv[2] ?? 'dist');
/** What the compiler says that it has read, relative to dist/. */
const { fileNames } = JSON.parse(readFileSync(join(dist, '.tsbuildinfo'), 'utf8'));
const sources = resolve(dist, '../src');
const made = new Set(fileNames.map((name) => relative(sources, resolve(dist, name)).replace(/\.ts$/, '')));
for (const path of readdirSync(dist, { recursive: true })) {
  const stem = path.replace(/\.(?:js|js\.map|d\.ts)$/, '');
  if (stem !== path && !made.has(stem)) rmSync(join(dist, path));
}
