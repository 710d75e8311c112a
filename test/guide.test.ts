/** The guide's first extension: its commands, as they stand there, with names of this run's own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { run, World } from './daemon-world.ts';

const GUIDE = join(import.meta.dirname, '../docs/guide.md');
let world: World;
/** Hosts of this run. */
let names: readonly [string, string];
beforeEach(() => {
  world = new World();
  names = [`al${process.pid}`, `bo${process.pid}`];
});
afterEach(async () => {
  await world.end();
  for (const name of names) run('ip', ['netns', 'delete', name]);
});

/** Commands of a section, without its sub-sections. */
function commandsOf(section: string): string {
  const [, text = ''] = readFileSync(GUIDE, 'utf8').split(`\n## ${section}\n`);
  const [own] = text.split(/\n##+ /);
  return [...own.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block).join('');
}

test('the first extension filters in the kernel by the commands of the guide', () => {
  const [alice, bob] = names;
  const commands = commandsOf('Your first extension in ten minutes').replaceAll('alice', alice).replaceAll('bob', bob);
  const script = `
set -e
cd ${world.folder}
export MILLRACE_SOCKET=${world.socket}
millrace() { ${process.execPath} ${join(import.meta.dirname, '../bin/millrace.js')} "$@"; }
${commands}`;
  // Of what is started in the background nothing outlives this, should a command fail.
  const file = world.file('guide.sh', `trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n${script}`);
  const outcome = run('nsenter', [`--net=/run/netns/${world.middle}`, 'bash', file], { timeoutMs: 120_000 });
  expect(outcome.code, `${outcome.stderr}\n${world.log()}`).toBe(0);
  const { stdout } = outcome;
  expect(stdout).toContain('5 packets transmitted, 5 received');
  const carried = new RegExp(`^${alice} +tc +\\d+ +(\\d+) `, 'm').exec(stdout)?.[1];
  expect(Number(carried)).toBeGreaterThan(20);
  expect(stdout).toMatch(
    /tcp\(dst=8080\), packets:\d+, bytes:\d+, actions:2\n {2}decided by wall, small-switch; in the kernel/,
  );
  expect(stdout).toMatch(/^closed$/m);
  expect(stdout).toMatch(/wall:CLOSED +\d+ {2}This TCP port is closed/);
  expect(stdout).toContain('decidedBy: small-switch');
  for (const line of ['wall looks at tcp.destination', 'it rests on closed[8080]', 'dropped: wall:CLOSED'])
    expect(stdout).toContain(line);
});
