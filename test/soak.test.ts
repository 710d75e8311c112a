/** The soaks in short: what a daemon holds is what it was after ports, tables, datapaths, extensions and connections have come and gone, and after its end. */
import { expect, test } from 'vitest';
import { hasOpenVSwitch } from './ovs-world.ts';
import { soakConnections } from './soak/connections.ts';
import { grown, soak } from './soak/soak.ts';

test('a daemon under traffic, with everything coming and going, kills among it, has in the end what it had', async () => {
  const result = await soak({
    seconds: 40,
    warmUpRounds: 2,
    lifeSeconds: 10,
    tables: 3,
    isAlone: false,
    say: () => undefined,
  });
  expect(grown(result)).toEqual([]);
  expect(result.lives).toBeGreaterThanOrEqual(4);
}, 300_000);

test.runIf(hasOpenVSwitch())(
  'short connections through 16 zones, closed and reset by either side, leave nothing',
  async () => {
    const options = { seconds: 5, isAlone: false, offload: 'require', say: () => undefined } as const;
    const { done, wrong, findings } = await soakConnections(options);
    expect(wrong).toEqual([]);
    expect(grown({ findings: [{ of: 'the daemon', lines: findings }] })).toEqual([]);
    expect(done).toBeGreaterThan(50);
  },
  300_000,
);
