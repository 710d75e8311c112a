import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { captureFileProblem } from './capture-files.ts';
import type { Port } from './model.ts';
import { ConfigError, parseConfig } from './parse.ts';

let folder = '';
const at = (name: string) => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-files-'));
  writeFileSync(at('a'), '');
  linkSync(at('a'), at('hard'));
  symlinkSync('a', at('soft'));
  symlinkSync(at('soft'), at('softer'));
  symlinkSync('absent', at('dangling'));
  symlinkSync('loop', at('loop'));
  mkdirSync(at('real'));
  symlinkSync('real', at('folder'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const pcap = (files: { read?: string; write?: string }): Port => ({ kind: 'pcap', device: '', ...files });

test('the file that a port reads is not written by it, by whichever name', () => {
  for (const name of ['a', 'hard', 'soft', 'softer', 'real/../a'])
    expect(captureFileProblem('p', pcap({ read: at('a'), write: at(name) }), [])).toContain('which it reads');
  expect(captureFileProblem('p', pcap({ read: at('a'), write: at('b') }), [])).toBeNull();
});

test('what one port writes, no other reads or writes; what ports read, all may', () => {
  const problem = (mine: Port, other: Port) => captureFileProblem('p', mine, [['q', other]]);
  expect(problem(pcap({ write: at('hard') }), pcap({ write: at('soft') }))).toContain('which port "q" writes');
  expect(problem(pcap({ read: at('hard') }), pcap({ write: at('soft') }))).toContain('which port "q" writes');
  expect(problem(pcap({ write: at('hard') }), pcap({ read: at('soft') }))).toContain('which port "q" reads');
  expect(problem(pcap({ read: at('hard') }), pcap({ read: at('soft') }))).toBeNull();
  expect(captureFileProblem('p', pcap({ write: at('a') }), [['p', pcap({ write: at('a') })]])).toBeNull();
});

test('files that are not there yet are known by where they would be made', () => {
  const both = (one: string, two: string) =>
    captureFileProblem('p', pcap({ write: at(one) }), [['q', pcap({ write: at(two) })]]);
  expect(both('absent', 'dangling')).toContain('which port "q" writes');
  expect(both('real/new', 'folder/new')).toContain('which port "q" writes');
  expect(both('absent', 'new')).toBeNull();
  expect(both('loop', 'new')).toBeNull();
});

test('a configuration in which ports share a file is refused at the later port', () => {
  const text = `ports:\n  p: { kind: pcap, write: x }\n  q: { kind: pcap, write: ./x }\n  r: { kind: pcap, read: y, write: y }\n`;
  let message = '';
  try {
    parseConfig(text, at('millrace.yaml'));
  } catch (error) {
    message = error instanceof ConfigError ? error.message : '';
  }
  const [second, third] = message.split('\n');
  expect(second).toContain('millrace.yaml:3:3: ports.q: it would write');
  expect(third).toContain('millrace.yaml:4:3: ports.r: it would write');
});
