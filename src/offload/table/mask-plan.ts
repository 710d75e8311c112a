/**
 * What of a flow's mask programs look at. Some bits of a key are always 0 for the packets that programs see (tunnels, and connections where they track none):
 * a flow that wants them 0 is carried without looking, one that wants them set cannot be. The rest is looked at, or refused with a reason.
 */
import { Word } from '../../flow/index.ts';
import { MAXIMUM_KEY_WORDS } from '../layout/limits.ts';

/** A mask as programs have it, or the reason why they do not. */
export interface MaskPlan {
  /** Null when nothing stands in the way. */
  readonly reason: string | null;
  /** Words that are looked at, ascending, and their bits. */
  readonly index: readonly number[];
  readonly values: readonly number[];
  /** Words with bits that the flow must want to be 0, and these bits. */
  readonly zeroIndex: readonly number[];
  readonly zeroValues: readonly number[];
  /** Equal for masks that are the same to programs. */
  readonly id: string;
}

/** Bits of each word that are 0 for every packet that programs see, and what they are. */
function alwaysZero(word: number, hasConnections: boolean): number {
  if (word === Word.PRIORITY || word === Word.MARK) return 0xffff_ffff;
  if (word >= Word.CT && word < Word.L2) return hasConnections ? 0 : 0xffff_ffff;
  // The byte beside it says which headers could be read, which programs tell, too.
  if (word === Word.ETH_TYPE) return 0x0000_00ff;
  if (word === Word.TCP_FLAGS) return 0x0000_ffff;
  return word >= Word.TUNNEL ? 0xffff_ffff : 0;
}

/** Why a flow that wants such bits set is not offloaded. */
export function zeroReason(word: number): string {
  if (word === Word.PRIORITY) return 'matches on a priority';
  if (word === Word.MARK) return 'matches on a mark';
  if (word >= Word.CT && word < Word.L2) return 'matches on the state of a connection';
  if (word === Word.ETH_TYPE) return 'packets without an Ethernet header';
  if (word === Word.TCP_FLAGS) return 'matches on IPv6 extension headers';
  return 'matches on a tunnel';
}

/**
 * What programs make of a mask.
 * @param words of flow/'s mask
 * @param isUntagged the flow wants no outer tag: then there is no inner one either, and nobody need look
 * @param hasConnections whether programs track packets
 */
export function planMask(words: Uint32Array, isUntagged: boolean, hasConnections = false): MaskPlan {
  const index: number[] = [];
  const values: number[] = [];
  const zeroIndex: number[] = [];
  const zeroValues: number[] = [];
  let reason: string | null = null;
  for (let word = 0; word < words.length; word += 1) {
    if (words[word] === 0 || (isUntagged && word === Word.INNER_VLAN)) continue;
    const zero = alwaysZero(word, hasConnections);
    if ((words[word] & zero) !== 0) {
      zeroIndex.push(word);
      zeroValues.push((words[word] & zero) >>> 0);
    }
    const value = (words[word] & ~zero) >>> 0;
    if (value === 0) continue;
    if (word >= Word.ND_TARGET && word < Word.TUNNEL) reason = 'matches on neighbour discovery';
    index.push(word);
    values.push(value);
  }
  if (index.length > MAXIMUM_KEY_WORDS) {
    reason ??= `a mask over ${index.length} words of the key, at most ${MAXIMUM_KEY_WORDS}`;
  }
  const id = index.map((word, i) => `${word}:${values[i].toString(16)}`).join(' ');
  return { reason, index, values, zeroIndex, zeroValues, id };
}
