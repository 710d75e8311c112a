import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { EmitSite } from './site.ts';

const directory = mkdtempSync(join(tmpdir(), 'millrace-site-'));
afterAll(() => rmSync(directory, { recursive: true }));

function siteAt(...frames: string[]): EmitSite {
  const site = new EmitSite();
  site.stack = ['Error', ...frames.map((frame) => `    at ${frame}`)].join('\n');
  return site;
}

test('the first line outside the assembler is the one that wanted the instruction', () => {
  const own = join(import.meta.dirname, 'emitter.ts');
  const line = siteAt(`Assembler.emit (${own}:10:5)`, `write (file://${join(directory, 'user.ts')}:3:7)`).resolve();
  expect(line).toEqual({ file: join(directory, 'user.ts'), line: 3, column: 7, text: '' });
});

test('a compiled file is followed through its source map to the TypeScript line', () => {
  writeFileSync(join(directory, 'program.ts'), 'interface Unused {}\n\n  b.exit();\n');
  writeFileSync(join(directory, 'program.js'), 'b.exit();\n//# sourceMappingURL=program.js.map\n');
  // One segment: generated line 1, column 0 comes from source 0, line 3, column 2.
  const map = { version: 3, sources: ['program.ts'], names: [], mappings: 'AAEE' };
  writeFileSync(join(directory, 'program.js.map'), JSON.stringify(map));
  const line = siteAt(`${join(directory, 'program.js')}:1:3`).resolve();
  expect(line).toEqual({ file: join(directory, 'program.ts'), line: 3, column: 3, text: 'b.exit();' });
});

test('a map that is missing or broken leaves the compiled line, and a stack without files gives none', () => {
  writeFileSync(join(directory, 'broken.js'), 'b.exit();\n//# sourceMappingURL=broken.js.map\n');
  writeFileSync(join(directory, 'broken.js.map'), 'nonsense');
  expect(siteAt(`${join(directory, 'broken.js')}:1:1`).resolve()).toMatchObject({ line: 1, text: 'b.exit();' });
  expect(siteAt('native', 'eval at <anonymous>').resolve()).toBeUndefined();
});
