/**
 * The soak from the command line:
 *
 *      npm run soak -- --minutes 60            an hour; nobody else should use eBPF, interfaces or namespaces of the machine meanwhile
 *      npm run soak -- --minutes 5 --shared    beside others: only what is the daemon's own is counted
 */
import { parseArgs } from 'node:util';
import { grown, soak } from './soak.ts';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '60' }, shared: { type: 'boolean', default: false } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new RangeError(`--minutes ${values.minutes}: it must be a number above 0`);

const interruption = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => {
    console.log('ending: the round that runs is the last');
    interruption.abort(new Error(`ended by ${name}`));
  });
}

const result = await soak({
  signal: interruption.signal,
  seconds: minutes * 60,
  warmUpRounds: 10,
  lifeSeconds: Math.max(30, (minutes * 60) / 12),
  tables: 5,
  isAlone: !values.shared,
  say: (line) => console.log(`${new Date().toISOString()} ${line}`),
});
for (const { of, lines } of result.findings) {
  console.log(`\n${of}`);
  console.table(
    Object.fromEntries(
      lines.map(({ what, before, after, allowed, hasGrown }) => [what, { before, after, allowed, hasGrown }]),
    ),
  );
}
const more = grown(result);
console.log(
  `\n${result.lives} lives, ${result.rounds} rounds; ${more.length === 0 ? 'nothing has grown' : 'these have grown:'}`,
);
for (const line of more) console.log(line);
process.exitCode = more.length === 0 ? 0 : 1;
