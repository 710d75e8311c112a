/**
 * The soaks from the command line:
 *
 *      npm run soak -- --minutes 60            an hour; nobody else should use eBPF, interfaces or namespaces of the machine meanwhile
 *      npm run soak -- --minutes 5 --shared    beside others: only what is the daemon's own is counted
 *      npm run soak -- --connections           short connections through zones and translation, under ovs-vswitchd; --offload off: by the engine alone
 */
import { parseArgs } from 'node:util';
import type { Finding } from './census.ts';
import { soakConnections } from './connections.ts';
import { grown, soak } from './soak.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    shared: { type: 'boolean', default: false },
    connections: { type: 'boolean', default: false },
    offload: { type: 'string', default: 'require' },
  },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new RangeError(`--minutes ${values.minutes}: it must be a number above 0`);
const { offload } = values;
if (offload !== 'off' && offload !== 'require') throw new RangeError(`--offload ${offload}: it must be off or require`);

const interruption = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => {
    console.log('ending: the round that runs is the last');
    interruption.abort(new Error(`ended by ${name}`));
  });
}

const usual = {
  signal: interruption.signal,
  seconds: minutes * 60,
  isAlone: !values.shared,
  say: (line: string) => console.log(`${new Date().toISOString()} ${line}`),
};

function table(of: string, lines: readonly Finding[]): void {
  console.log(`\n${of}`);
  console.table(
    Object.fromEntries(
      lines.map(({ what, before, after, allowed, hasGrown }) => [what, { before, after, allowed, hasGrown }]),
    ),
  );
}

/** @returns what went wrong, in words */
async function everything(): Promise<string[]> {
  const lifeSeconds = Math.max(30, (minutes * 60) / 12);
  const result = await soak({ ...usual, warmUpRounds: 10, lifeSeconds, tables: 5 });
  for (const { of, lines } of result.findings) table(of, lines);
  console.log(`\n${result.lives} lives, ${result.rounds} rounds`);
  return grown(result);
}

/** @returns what went wrong, in words */
async function connections(): Promise<string[]> {
  const { done, wrong, findings } = await soakConnections({
    ...usual,
    offload: offload === 'off' ? 'off' : 'require',
  });
  table('what the daemon holds', findings);
  console.log(`\n${done} connections`);
  return [...wrong, ...grown({ findings: [{ of: 'the daemon', lines: findings }] })];
}

const wrong = await (values.connections ? connections() : everything());
console.log(wrong.length === 0 ? 'nothing has grown, nothing went wrong' : 'these have grown, or went wrong:');
for (const line of wrong) console.log(line);
process.exitCode = wrong.length === 0 ? 0 : 1;
