/** set of Ethernet addresses as eBPF. */
import { at, R2, R3, R4, R6 } from '../../bpf/index.ts';
import { MAC_ADDRESSES_BYTES } from '../../net/index.ts';
import { word } from './compilation.ts';
import type { ListCompiler } from './compile.ts';
import { formWords, type StepCode, type WordForm } from './shape.ts';
import { setWord } from './sums.ts';

/** The three words of both MAC addresses. */
export type EthernetStep = { readonly kind: 'ethernet'; readonly words: readonly WordForm[] };

/** @param pairs three words of value and mask */
export function compileSetEthernet(list: ListCompiler, pairs: Int32Array): boolean {
  const words = [0, 2, 4].map((at) => word(list.piece, pairs[at], pairs[at + 1]));
  return words.every((form) => form === '-') || list.change({ kind: 'ethernet', words });
}

export const ethernet: StepCode<EthernetStep> = {
  name: ({ words }) => `ethernet(${words.join('')})`,
  parameters: ({ words }) => words.reduce((sum, form) => sum + formWords(form), 0),
  emit(writer, { words }) {
    const { b } = writer;
    if (!writer.isTc) {
      // R1 to R3 are needed for the fields.
      b.packetOfXdp(R6, R4, R2);
      b.needBytes(R4, R2, 14, R3, writer.failure);
      words.forEach((form, i) => {
        setWord(writer, at(R4, i * 4), form, []);
      });
      return;
    }
    if (words.every((form) => form === 'f')) {
      const first = writer.next();
      writer.parameter += 2;
      b.call('skb_store_bytes', R6, 0, first, MAC_ADDRESSES_BYTES, 0);
      writer.mustBeZero();
      return;
    }
    b.scope(() => {
      const addresses = b.stack(MAC_ADDRESSES_BYTES, 4);
      b.call('skb_load_bytes', R6, 0, addresses, MAC_ADDRESSES_BYTES);
      writer.mustBeZero();
      words.forEach((form, i) => {
        setWord(writer, addresses.at(i * 4), form, []);
      });
      b.call('skb_store_bytes', R6, 0, addresses, MAC_ADDRESSES_BYTES, 0);
      writer.mustBeZero();
    });
  },
};
