/** `push_nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x10,si=255,c1=0x1,...)`, or `md2=0x...` for metadata of type 2. */
import { groupOf, KeyAttribute } from '../../key/fields.ts';
import { Word } from '../../key/layout.ts';
import { emptyKeyAndMask, formatFields, parseField } from '../../text/groups.ts';
import { hexBytes, hexDigits } from '../../text/values.ts';
import type { ActionText } from '../description.ts';
import { unpackBytes } from '../encoding.ts';

const FIELDS = groupOf(KeyAttribute.NSH)?.fields ?? [];
const HEAD = FIELDS.slice(0, 6);
const CONTEXT = FIELDS.slice(6);

export const pushNshText: ActionText = {
  name: 'push_nsh',
  format(words, at) {
    const set = emptyKeyAndMask();
    set.mask.fill(0xffff_ffff);
    set.key[Word.NSH_BASE] = words[at + 1];
    set.key[Word.NSH_PATH] = words[at + 2];
    const head = formatFields(HEAD, set);
    if (((words[at + 1] >>> 8) & 0xff) === 1) {
      set.key.set(words.subarray(at + 4, at + 8), Word.NSH_CONTEXT);
      return `push_nsh(${head},${formatFields(CONTEXT, set)})`;
    }
    const metadata = hexDigits(unpackBytes(words, at + 4, words[at + 3]));
    return `push_nsh(${head},md2=${metadata === '' ? '0' : `0x${metadata}`})`;
  },
  parse(scanner, builder) {
    const set = emptyKeyAndMask();
    let metadata: Uint8Array = new Uint8Array(0);
    scanner.arguments((name, start) => {
      if (name === 'md2') {
        // No metadata is a 0.
        if (!scanner.eat('0')) scanner.fail('hexadecimal bytes expected');
        metadata = scanner.eat('x') ? hexBytes(scanner) : new Uint8Array(0);
        return;
      }
      const field = FIELDS.find((each) => each.name === name);
      parseField(scanner, field ?? scanner.failAt(start, `push_nsh has no argument '${name}'`), set);
    });
    const base = set.key[Word.NSH_BASE];
    if (((base >>> 8) & 0xff) === 1) metadata = unpackBytes(set.key, Word.NSH_CONTEXT, 16);
    builder.pushNsh(base, set.key[Word.NSH_PATH], metadata);
  },
};
