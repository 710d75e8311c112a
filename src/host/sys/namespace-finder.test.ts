import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NamespaceFinder } from './namespace-finder.ts';
import { NetworkNamespace } from './network-namespace.ts';

const OWN = '/proc/self/ns/net';

/** A finder in a world of one namespace, that of this process, by changing paths and under a changing id. */
function world() {
  const state = { paths: [] as string[], id: 7 as number | undefined, nowMs: 0, searches: 0, asked: 0 };
  const finder = new NamespaceFinder({
    idOf() {
      state.asked += 1;
      return state.id;
    },
    places() {
      state.searches += 1;
      return state.paths.map((path) => ({ path }));
    },
    nowMs: () => state.nowMs,
  });
  const finds = (id = 7) => {
    const found = finder.open(id);
    found?.close();
    return found?.label ?? null;
  };
  return { state, finder, finds };
}

test('what was found is tried first, and searched for again when it leads elsewhere', () => {
  const { state, finds } = world();
  state.paths = ['/nowhere', OWN];
  expect([finds(), finds()]).toEqual([OWN, OWN]);
  expect(state.searches).toBe(1);
  state.id = 8;
  expect(finds()).toBeNull();
  expect(finds(8)).toBe(OWN);
});

test('what was not found is not searched for again at once, after news earlier', () => {
  const { state, finder, finds } = world();
  for (let second = 0; second < 10; second += 1) {
    expect(finds()).toBeNull();
    state.nowMs += 1_000;
  }
  expect(state.searches).toBe(1);
  expect(finds()).toBeNull();
  expect(state.searches).toBe(2);
  finder.news();
  expect(finds()).toBeNull();
  expect(state.searches).toBe(2);
  state.nowMs += 1_000;
  state.paths = [OWN];
  expect(finds()).toBe(OWN);
  expect(state.searches).toBe(3);
});

test('an open namespace is the one that was asked about', () => {
  const { state, finder } = world();
  state.paths = [OWN];
  const found = finder.open(7);
  const own = NetworkNamespace.current();
  expect(found?.identity).toBe(own.identity);
  own.close();
  found?.close();
});

test('a named pipe among the places is not waited for', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-finder-'));
  try {
    const pipe = join(folder, 'pipe');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
    const { state, finds } = world();
    state.paths = [pipe];
    state.id = undefined;
    expect(finds()).toBeNull();
    expect(state.asked).toBe(1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
