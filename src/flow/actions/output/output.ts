/** OUTPUT: send the packet to a port; and TRUNC: the next output, or what is told to userspace next, is cut off behind so many bytes. */
import { Checksum, Gso, toKeyPort } from '../../../net/index.ts';
import { Drop } from '../../engine/drops.ts';
import type { ActionEngine } from '../../engine/engine.ts';
import { type ActionDescription, leadsNowhere, numberText } from '../description.ts';
import { Action } from '../encoding.ts';
import { structure } from '../netlink.ts';

/** No limit on the length of the next output. */
export const WHOLE = 0x7fff_ffff;

/** An Ethernet header stays whole. */
const MINIMUM_BYTES = 14;

export const output: ActionDescription<typeof Action.OUTPUT> = {
  type: Action.OUTPUT,
  layout: { fields: ['port'] },
  flaw(its, at) {
    const port = its.words[at + 1] >>> 0;
    return port < its.portLimit ? null : `port ${port} is not less than ${its.portLimit}`;
  },
  leads: (to, words, at) => to.output(toKeyPort(words[at + 1])),
  // A number without a name or parentheses.
  text: {
    name: '',
    isBare: true,
    format: (words, at) => String(words[at + 1] >>> 0),
    parse: (scanner, builder) => builder.output(scanner.number(32)),
  },
  netlink: structure(Action.OUTPUT, ['u32']),
  run: runOutput,
};

export const trunc: ActionDescription<typeof Action.TRUNC> = {
  type: Action.TRUNC,
  layout: { fields: ['most bytes'] },
  flaw(its, at) {
    const bytes = its.words[at + 1] >>> 0;
    return bytes >= MINIMUM_BYTES ? null : `${bytes} bytes are fewer than ${MINIMUM_BYTES}`;
  },
  leads: leadsNowhere,
  text: numberText('trunc', (builder, bytes) => builder.trunc(bytes)),
  netlink: structure(Action.TRUNC, ['u32']),
  run(engine, words, at) {
    const bytes = words[at + 1];
    // A comparison, not Math.min: the limit stays a small integer.
    engine.limit = bytes >>> 0 < WHOLE ? bytes : WHOLE;
    return true;
  },
};

/** What comes behind a trunc action is a shorter packet over the same bytes. */
export function runOutput(engine: ActionEngine, words: Int32Array, at: number): boolean {
  const port = toKeyPort(words[at + 1]);
  const packet = engine.packet;
  const limit = engine.limit;
  engine.limit = WHOLE;
  if (limit >= packet.length) {
    engine.sent();
    engine.hooks.output(packet, port, engine.key);
    return true;
  }
  const clone = engine.clones.clone(packet);
  if (clone === null) {
    engine.drop(Drop.NO_BUFFER);
    return true;
  }
  // What is cut off cannot be segmented any more. A partial checksum is completed over what is left, as in the kernel.
  clone.length = limit;
  clone.limit = clone.offset + limit;
  const isSummed = clone.checksum === Checksum.PARTIAL && clone.checksumStart + clone.checksumOffset + 2 <= limit;
  if (!isSummed || clone.gsoType !== Gso.NONE) clone.checksum = Checksum.UNKNOWN;
  clone.gsoType = 0;
  clone.gsoSizeBytes = 0;
  engine.sent();
  try {
    engine.hooks.output(clone, port, engine.key);
  } finally {
    clone.release();
  }
  return true;
}
