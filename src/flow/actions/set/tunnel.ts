/** set(tunnel(...)): the tunnel that the packet leaves through. Its options are judged as ovs-vswitchd's are by the kernel. */
import type { FlowKey } from '../../key/key.ts';
import { TUNNEL_BASE_WORDS, TUNNEL_WORDS, TunnelOptions, tunnelOptionsBytes, Word } from '../../key/layout.ts';

/** Why a tunnel's words at `at + 2` cannot be set, or null. */
export function setTunnelFlaw(words: Int32Array, at: number): string | null {
  const word = (index: number) => words[at + 2 + index - Word.TUNNEL];
  const optionsBytes = tunnelOptionsBytes(word(Word.TUNNEL_FLAGS));
  const version = word(Word.TUNNEL_IP) >>> 24;
  if (version !== 4 && version !== 6) return 'neither IPv4 nor IPv6';
  const addressWords = version === 6 ? 4 : 1;
  let destination = 0;
  for (let i = 0; i < addressWords; i += 1) destination |= word(Word.TUNNEL_DESTINATION + i);
  if (destination === 0) return 'no destination';
  const kind = word(Word.TUNNEL_IP) & 0xff;
  switch (kind) {
    case TunnelOptions.NONE:
      return optionsBytes === 0 ? null : 'options of no kind';
    case TunnelOptions.GENEVE:
      return geneveFlaw(words, at + 2 + TUNNEL_BASE_WORDS, optionsBytes);
    case TunnelOptions.VXLAN_GBP:
      return optionsBytes === 4 ? null : 'the options of VXLAN take 4 bytes';
    case TunnelOptions.ERSPAN:
      return optionsBytes === 8 ? null : 'the options of ERSPAN take 8 bytes';
    default:
      return `unknown kind of options ${kind}`;
  }
}

/** Each option says its own length, in words behind its 4-byte head (RFC 8926, section 3.5). */
function geneveFlaw(words: Int32Array, from: number, lengthBytes: number): string | null {
  if ((lengthBytes & 3) !== 0) return 'Geneve options are whole words';
  const count = lengthBytes / 4;
  let at = 0;
  while (at < count) at += 1 + (words[from + at] & 0x1f);
  return at === count ? null : 'the Geneve options do not end where they should';
}

/** The tunnel that the packet leaves through; words behind the options that the action carries are 0. */
export function setTunnel(key: FlowKey, words: Int32Array, from: number, end: number): void {
  const count = Math.min(end - from, TUNNEL_WORDS);
  for (let i = 0; i < TUNNEL_WORDS; i += 1) key.egress[i] = i < count ? words[from + i] : 0;
  key.hasEgress = count >= TUNNEL_BASE_WORDS;
}
