/**
 * Attributes of netfilter's messages, checked as the kernel does before it looks at any of them: each has the length of its kind (nla_parse_deprecated), whether
 * the command wants it or not.
 */
import { Attributes, eachAttribute } from '../../attributes.ts';
import { Errno, OvsError } from '../../errors.ts';

/** What an attribute may hold: a number of so many bytes at least, attributes, so many bytes at most, a name; one that is only told must not come. */
export type Kind =
  | { readonly atLeast: number }
  | 'nest'
  | 'told'
  | { readonly atMost: number }
  | { readonly nameBytes: number };

export const U8: Kind = { atLeast: 1 };
export const U16: Kind = { atLeast: 2 };
export const U32: Kind = { atLeast: 4 };
/** An IPv6 address. */
export const ADDRESS: Kind = { atLeast: 16 };

/** Kinds by type; a type without one may hold anything. */
export type Policy = Readonly<Record<number, Kind>>;

/**
 * Read the attributes from `start` on.
 * @param maximumType types above it are passed over
 * @throws OvsError ERANGE for one of a wrong length, EINVAL for a name that does not end
 */
export function readAttributes(bytes: Uint8Array, start: number, maximumType: number, policy: Policy): Attributes {
  eachAttribute(bytes, start, bytes.length, (type, from, to) => {
    if (type <= maximumType) check(type, policy[type], bytes.subarray(from, to));
  });
  return new Attributes(bytes, start, bytes.length, maximumType);
}

/** The attributes inside of one. @throws OvsError as {@link readAttributes} */
export function readNest(content: Uint8Array, maximumType: number, policy: Policy): Attributes {
  return readAttributes(content, 0, maximumType, policy);
}

function check(type: number, kind: Kind | undefined, content: Uint8Array): void {
  if (kind === undefined) return;
  const { length } = content;
  if (kind === 'told') throw new OvsError(Errno.EINVAL, `attribute ${type} is not for requests`);
  if (kind === 'nest') {
    if (length > 0 && length < 4) throw wrongLength(type, length);
  } else if ('atLeast' in kind) {
    if (length < kind.atLeast) throw wrongLength(type, length);
  } else if ('atMost' in kind) {
    if (length > kind.atMost) throw wrongLength(type, length);
  } else {
    const end = content.indexOf(0);
    if (end < 0 || end > kind.nameBytes) throw new OvsError(Errno.EINVAL, `the name in attribute ${type} does not end`);
    const withoutEnd = content[length - 1] === 0 ? length - 1 : length;
    if (withoutEnd > kind.nameBytes) throw wrongLength(type, length);
  }
}

function wrongLength(type: number, length: number): OvsError {
  return new OvsError(Errno.ERANGE, `attribute ${type} has the wrong length ${length}`);
}
