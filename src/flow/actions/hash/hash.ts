/** HASH: the key gets a hash of the packet's connection. offload/actions/hash.ts gives the same number. */
import { EtherType } from '../../../net/index.ts';
import type { FlowKey } from '../../key/key.ts';
import { Word } from '../../key/layout.ts';
import { type HashSecret, hashMasked } from '../../table/hash.ts';
import { type ActionDescription, leadsNowhere } from '../description.ts';
import { Action } from '../encoding.ts';
import { structure } from '../netlink.ts';

/** Algorithms of HASH. */
export const HashAlgorithm = { L4: 0, SYMMETRIC_L4: 1 } as const;

export const hash: ActionDescription<typeof Action.HASH> = {
  type: Action.HASH,
  layout: { fields: ['algorithm', 'basis'] },
  flaw(its, at) {
    const algorithm = its.words[at + 1];
    return algorithm === 0 || algorithm === 1 ? null : `unknown algorithm ${algorithm}`;
  },
  leads: leadsNowhere,
  text: {
    name: 'hash',
    format: (words, at) => `hash(${words[at + 1] === HashAlgorithm.L4 ? 'l4' : 'sym_l4'}(${words[at + 2] >>> 0}))`,
    parse(scanner, builder) {
      const name = scanner.name();
      scanner.expect('(');
      if (name === 'l4' || name === 'hash_l4') builder.hash(HashAlgorithm.L4, scanner.number(32));
      else if (name === 'sym_l4') builder.hash(HashAlgorithm.SYMMETRIC_L4, scanner.number(32));
      else scanner.fail("'l4' or 'sym_l4' expected");
      scanner.expect(')');
      scanner.expect(')');
    },
  },
  netlink: structure(Action.HASH, ['u32', 'u32']),
  run({ key, hashSecret }, words, at) {
    key.words[Word.DP_HASH] = connectionHash(key, words[at + 1], words[at + 2], hashSecret);
    return true;
  },
};

/** The words that a connection's hash goes by: addresses, protocol, ports; the IPv6 ones come after. */
const HASH_WORDS = Int32Array.from({ length: 10 }, (_, i) =>
  i < 2 ? [Word.PORTS, Word.IP][i] : Word.IPV4_SOURCE + i - 2,
);
const HASH_MASKS = Int32Array.from({ length: 10 }, (_, i) => (i === 1 ? 0xff00_0000 | 0 : -1));

/** Hash of the packet's connection, never 0. */
function connectionHash(key: FlowKey, algorithm: number, basis: number, secret: HashSecret): number {
  const words = key.words;
  const type = key.etherType;
  let hash: number;
  if (type !== EtherType.IPV4 && type !== EtherType.IPV6) {
    hash = (words[Word.MAC] ^ words[Word.MAC + 1] ^ words[Word.MAC + 2] ^ words[Word.ETH_TYPE]) | 0;
  } else if (algorithm === HashAlgorithm.SYMMETRIC_L4) {
    const ports = words[Word.PORTS];
    hash = (ports >>> 16) ^ (ports & 0xffff) ^ (words[Word.IP] >>> 24);
    const half = type === EtherType.IPV4 ? 1 : 4;
    for (let i = 0; i < half * 2; i += 1) hash = (hash + Math.imul(words[Word.IPV4_SOURCE + i], 0x9e37_79b1)) | 0;
  } else {
    hash = hashMasked(words, HASH_WORDS, HASH_MASKS, type === EtherType.IPV4 ? 4 : 10, secret);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b) ^ Math.imul(basis, 0xc2b2_ae35);
  hash ^= hash >>> 13;
  return hash === 0 ? 1 : hash >>> 0;
}
