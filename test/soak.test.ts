/** The soak in short: what a daemon holds is what it was after ports, tables, datapaths and extensions have come and gone, and after its end. */
import { expect, test } from 'vitest';
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
