/**
 * The learning extension as a module of a user's: its own sources, with the rooms imported by their public names, loaded as the daemon loads modules. Run
 * beside the same extension as it comes with Millrace, it shows what being a user's module costs.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadExtensionModule } from '../src/daemon/thread/load-module.ts';
import type { ExtensionFactory } from '../src/switch/index.ts';

const SOURCES = join(import.meta.dirname, '../../src/extensions/learning');
const ROOM = /'(?:\.\.\/)+(\w+)\/index\.ts'/g;

/** Load it. */
export function learningAsModule(): ExtensionFactory {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-module-'));
  try {
    for (const name of readdirSync(SOURCES)) {
      if (!name.endsWith('.ts') || name.endsWith('.test.ts')) continue;
      writeFileSync(join(folder, name), readFileSync(join(SOURCES, name), 'utf8').replaceAll(ROOM, "'millrace/$1'"));
    }
    const entry = join(folder, 'entry.ts');
    writeFileSync(entry, "export { learningExtension as default } from './index.ts';\n");
    return loadExtensionModule(entry).factory;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
