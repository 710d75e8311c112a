/**
 * Two projects: unit tests beside the code, about the tree (test/tree/) and of the conformance runner (test/conformance/), and namespace scenarios under test/
 * that need a kernel and root.
 */
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
          include: ['src/**/*.test.ts', 'examples/**/*.test.ts', 'test/{tree,conformance}/**/*.test.ts'],
          pool: 'forks',
          execArgv: [...MODULE_FLAGS],
          testTimeout: 30_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        resolve,
        test: {
          name: 'scenarios',
          include: ['test/**/*.test.ts'],
          exclude: ['test/{tree,conformance}/**'],
          pool: 'forks',
          // They mostly wait, and none may mind what else the machine does.
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
