/** IP addresses as bytes, which rtnetlink has, and as words, which queries and paths have. */

/** The bytes of an address, for a message. */
export function bytesOfWords(words: Int32Array, isIpv6: boolean): Uint8Array {
  const bytes = new Uint8Array(isIpv6 ? 16 : 4);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = words[i >>> 2] >>> (24 - 8 * (i & 3));
  return bytes;
}

/** Fill four words with an address of 4 or 16 bytes; words that it does not have are 0. */
export function fillWords(words: Int32Array, bytes: Uint8Array): void {
  for (let i = 0; i < 4; i += 1) {
    const at = i * 4;
    words[i] = at < bytes.length ? (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3] : 0;
  }
}

/** Whether two addresses are the same. */
export function sameWords(a: Int32Array, b: Int32Array): boolean {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[3] === b[3];
}

/** Whether no address is said. */
export function isUnsaid(words: Int32Array, isIpv6: boolean): boolean {
  return words[0] === 0 && (!isIpv6 || (words[1] === 0 && words[2] === 0 && words[3] === 0));
}

/** A text for maps: equal addresses have the same, and no two others. */
export function addressKey(isIpv6: boolean, words: Int32Array): string {
  return isIpv6 ? `${words[0]},${words[1]},${words[2]},${words[3]}` : `${words[0]}`;
}
