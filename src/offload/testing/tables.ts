/**
 * Random flow tables: some masks, and under each of them flows that frames of a few kinds match, none of which overlap, so that there
 * is one right answer for every packet. Some flows are for recirculated packets.
 */
import { KEY_WORDS, Word } from '../../flow/index.ts';
import { listAgain, type RandomFlow, RECIRCULATION_IDS, randomList, randomMask } from './flows.ts';
import { type FrameKind, randomFrame, randomKind } from './frames.ts';
import { keyOf } from './packets.ts';
import type { RandomSource } from './random.ts';

/** Flows, and the kinds of frames that are likely to match them. */
export interface RandomTable {
  readonly flows: readonly RandomFlow[];
  readonly kinds: readonly FrameKind[];
}

/** Whether some packet could match both. */
function overlap(a: RandomFlow, b: RandomFlow): boolean {
  for (let i = 0; i < KEY_WORDS; i += 1) if (((a.key[i] ^ b.key[i]) & a.mask[i] & b.mask[i]) !== 0) return false;
  return true;
}

/**
 * @param ports that packets come in at: 1 to this
 * @param again whether most packets are looked up again
 */
export function randomTable(random: RandomSource, ports: number, flows: number, again = false): RandomTable {
  const kinds = Array.from({ length: 2 + random.below(5) }, () => randomKind(random));
  const masks = Array.from({ length: 1 + random.below(8) }, () => {
    const mask = randomMask(random, random.pick([4, 12, 1000]));
    if (random.once(6)) mask[Word.DP_HASH] = 1;
    if (random.once(6)) mask[Word.TCP_FLAGS] = 0x0002_0000;
    return mask;
  });
  const made: RandomFlow[] = [];
  for (let i = 0; i < flows; i += 1) {
    const { words } = keyOf(randomFrame(random, random.pick(kinds)), 1 + random.below(ports));
    if (again ? !random.once(3) : random.once(3)) {
      words[Word.RECIRC_ID] = 1 + random.below(RECIRCULATION_IDS);
      words[Word.DP_HASH] = random.word();
    }
    const mask = random.pick(masks);
    const key = words.map((word, at) => word & mask[at]);
    const actions = random.once(40) ? new Int32Array(0) : again ? listAgain(random, key) : randomList(random, key);
    const flow = { key, mask, actions };
    if (!made.some((other) => overlap(other, flow))) made.push(flow);
  }
  return { flows: made, kinds };
}
