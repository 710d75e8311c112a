/** Two projects: unit tests beside the code and about the tree (test/tree/), and namespace scenarios under test/ that need a kernel and root. */
import { defineConfig } from 'vitest/config';
import { MODULE_FLAGS } from './src/daemon/thread/modules/flags.ts';

/** Examples import the rooms by their public names; tests take them from the source. */
const resolve = { alias: [{ find: /^millrace\/(\w+)$/, replacement: `${import.meta.dirname}/src/$1/index.ts` }] };

export default defineConfig({
  test: {
    reporters: ['default', './scripts/count-reporter.mjs'],
    projects: [
      {
        resolve,
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'examples/**/*.test.ts', 'test/tree/**/*.test.ts'],
          pool: 'forks',
          execArgv: [...MODULE_FLAGS],
          testTimeout: 30_000,
        },
      },
      {
        resolve,
        test: {
          name: 'scenarios',
          include: ['test/**/*.test.ts'],
          exclude: ['test/tree/**'],
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
