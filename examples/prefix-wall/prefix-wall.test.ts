import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseConfig } from '../../src/daemon/config/parse.ts';
import { TestBench, tcp } from '../testing.ts';
import cable from './cable.ts';
import prefixWall from './prefix-wall.ts';

const SERVER = '10.0.0.1';
let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'prefix-wall-'));
  file = join(folder, 'list.txt');
});
afterEach(() => rmSync(folder, { recursive: true }));

function benchOf(list: string, more: object = {}): TestBench {
  writeFileSync(file, list);
  const bench = new TestBench('outside', 'inside');
  bench.virtualSwitch.enableExtension(prefixWall, { file, ...more }).result();
  bench.virtualSwitch.enableExtension(cable, { ends: ['outside', 'inside'] }).result();
  return bench;
}

/** Whether a packet of a source comes through. */
function passes(bench: TestBench, source: string): boolean {
  bench.send('outside', tcp(source, SERVER, [1, 80]));
  return bench.take('inside').length === 1;
}

const ended = (bench: TestBench) => (bench.virtualSwitch.extensionStatus('cable') as { changed: number }).changed;
const command = (bench: TestBench, name: string) => bench.virtualSwitch.extensionCommand('prefix-wall', name, null);

test('the longest prefix counts, drops have a name, and both are counted', () => {
  const bench = benchOf('deny 203.0.113.0/24 # scanners\n\nallow 203.0.113.7\n');
  expect(passes(bench, '192.0.2.1')).toBe(true);
  expect(passes(bench, '203.0.113.6')).toBe(false);
  expect(passes(bench, '203.0.113.7')).toBe(true);
  expect(bench.drops('outside')).toEqual({ 'prefix-wall:DENIED': 1 });
  bench.advance(300);
  const [wall] = bench.virtualSwitch.extensions().filter(({ name }) => name === 'prefix-wall');
  expect(wall.counters).toEqual({ denied: 1, passed: 2 });
  expect(bench.virtualSwitch.extensionStatus('prefix-wall')).toMatchObject({ decidedBy: 'cable' });
});

test('what no line covers is denied where that is wished', () => {
  const bench = benchOf('allow 192.0.2.0/24\n', { otherwise: 'deny' });
  expect(passes(bench, '192.0.2.1')).toBe(true);
  expect(passes(bench, '192.0.3.1')).toBe(false);
});

test('one decision stands for all sources with the same answer', () => {
  const bench = benchOf('deny 203.0.113.0/24\n');
  for (let host = 0; host < 250; host += 1) expect(passes(bench, `203.0.113.${host}`)).toBe(false);
  expect(bench.virtualSwitch.extensionStatus('cable')).toMatchObject({ flows: 1, decisions: 1 });
});

test('a changed file is read again, and exactly the flows of what changed end', () => {
  const bench = benchOf('deny 203.0.113.0/24\ndeny 198.51.100.0/24\n');
  for (const source of ['203.0.113.1', '198.51.100.1']) expect(passes(bench, source)).toBe(false);
  for (const source of ['10.9.9.9', '192.0.2.1']) expect(passes(bench, source)).toBe(true);
  writeFileSync(file, 'deny 203.0.113.0/24\n# deny 198.51.100.0/24\n');
  bench.advance(500);
  expect(bench.log).toEqual([expect.stringContaining('was read again')]);
  expect(ended(bench)).toBe(1);
  expect(passes(bench, '198.51.100.1')).toBe(true);
  expect(passes(bench, '203.0.113.1')).toBe(false);
  // A file that is as it was ends nothing.
  writeFileSync(file, '# the same\ndeny 203.0.113.0/24\n');
  bench.advance(500);
  expect(ended(bench)).toBe(1);
});

test('wrong lines are named, and the old list stays', () => {
  const bench = benchOf('deny 203.0.113.0/24\n');
  expect(passes(bench, '203.0.113.1')).toBe(false);
  writeFileSync(
    file,
    'allow 203.0.113.0/24\nforbid 10.0.0.0/8\ndeny 300.0.0.0/8\n\ndeny\ndeny 80\nallow 203.0.113.0/24\n',
  );
  const sentence = `${file}: line 2: "forbid" is neither allow nor deny; line 3: 300.0.0.0/8 is no IPv4 address or prefix; line 5: deny wants a prefix; line 6: 80 is no IPv4 address or prefix, nor IPv6 address or prefix; line 7: this prefix stands in line 1`;
  bench.advance(500);
  expect(bench.log).toEqual([`warn: the list stays as it was: ${sentence}`]);
  expect(() => command(bench, 'reload')).toThrow(sentence);
  expect(bench.virtualSwitch.extensionStatus('prefix-wall')).toMatchObject({
    state: { prefixes: 1, problem: sentence },
  });
  expect(passes(bench, '203.0.113.1')).toBe(false);
  expect(ended(bench)).toBe(0);
  rmSync(file);
  bench.advance(500);
  expect(bench.log.at(-1)).toContain('no such file');
  writeFileSync(file, 'deny 2001:db8::/32\n');
  expect(command(bench, 'reload')).toMatchObject({ problem: null, list: { '2001:db8::/32': 'deny' } });
  expect(passes(bench, '203.0.113.1')).toBe(true);
});

test('what may be IP and cannot be read does not pass, and ARP does', () => {
  const bench = benchOf('');
  const broken = tcp('192.0.2.1', SERVER, [1, 80]);
  // A header length of 4 words.
  broken[14] = 0x44;
  const arp = new Uint8Array(60).fill(255, 0, 6);
  arp.set([2, 0, 0, 0, 0, 1, 8, 6], 6);
  bench.send('outside', broken, arp);
  expect(bench.take('inside')).toEqual([arp]);
  expect(bench.drops('outside')).toEqual({ 'prefix-wall:UNREADABLE': 1 });
});

test('a list that is wrong from the start is an error of the start', () => {
  expect(() => benchOf('deny nothing\n')).toThrow('line 1: nothing is no IPv4 address or prefix');
});

test('its configuration is checked, and the one of the example is right', () => {
  expect(() => prefixWall.parseConfiguration?.({})).toThrow('file: must be the path');
  expect(() => prefixWall.parseConfiguration?.({ file: 'a', otherwise: 'drop' })).toThrow('must be allow or deny');
  expect(() => prefixWall.parseConfiguration?.({ list: 'a' })).toThrow('unknown key "list"');
  expect(() => cable.parseConfiguration?.({ ends: ['a', 'a'] })).toThrow('ends: must be the names of two ports');
  const path = `${import.meta.dirname}/millrace.yaml`;
  const [wall, below] = parseConfig(readFileSync(path, 'utf8'), path).extensions;
  expect(wall.module).toBe(`${import.meta.dirname}/prefix-wall.ts`);
  expect(prefixWall.parseConfiguration?.(wall.config)).toEqual({
    file: `${import.meta.dirname}/list.txt`,
    otherwise: 'allow',
  });
  expect(cable.parseConfiguration?.(below.config)).toEqual(['outside', 'inside']);
});
