/**
 * A flow key that is filled again for every packet, with what the words cannot say: where the headers are, whether the words
 * still describe the packet, and the tunnel that the packet is to leave through. layout.ts is the map; extract.ts fills it.
 */
import { type KeyPort, toKeyPort } from '../../net/index.ts';
import { KEY_WORDS, L3_MARKER, TUNNEL_WORDS, Word } from './layout.ts';

export class FlowKey {
  /** The key itself, by {@link Word}. */
  readonly words = new Uint32Array(KEY_WORDS);
  /** Whether any word of the tunnel part may be other than 0. Who writes tunnel words sets it. */
  hasTunnel = false;

  /** First byte of layer 3 and of the transport header, counted from the start of the frame; -1 when there is none. */
  l3Offset = -1;
  l4Offset = -1;
  /** One behind the IP packet, counted likewise: what follows is padding. -1 for what is not IP, and where the IP header lies. */
  l3End = -1;
  /** EtherType of a packet without an Ethernet header; 0 for Ethernet frames. */
  l3Type = 0;
  /** True when actions have moved headers, so that layers 2 to 4 must be extracted again before the next look-up. */
  stale = false;
  /** One behind the last word of layers 2 to 4 that may be other than 0: extraction clears no further. */
  extractedEnd: number = Word.TUNNEL;

  /** The tunnel part that set(tunnel(...)) gave the packet, laid out as the key's own from {@link Word.TUNNEL} on. */
  readonly egress = new Uint32Array(TUNNEL_WORDS);
  hasEgress = false;

  /** How often this packet has been recirculated. */
  recirculations = 0;

  /**
   * Of a packet that was put together from fragments: bytes of the largest of them, IP header included, and the identification that they had. It is sent on in
   * pieces no larger. 0 for all others.
   */
  largestFragmentBytes = 0;
  identification = 0;

  /**
   * Begin with a packet that has just arrived: metadata 0 but for the port, no tunnel, no connection.
   * @param l3Type EtherType of a packet that comes without an Ethernet header, 0 for frames
   */
  begin(inPort: KeyPort, l3Type = 0): void {
    const words = this.words;
    words[Word.IN_PORT] = inPort;
    words[Word.RECIRC_ID] = 0;
    for (let i = Word.DP_HASH; i < Word.L2; i += 1) words[i] = 0;
    if (this.hasTunnel) {
      words.fill(0, Word.TUNNEL);
      this.hasTunnel = false;
    }
    this.hasEgress = false;
    this.l3Type = l3Type;
    this.stale = false;
    this.extractedEnd = Word.TUNNEL;
    this.recirculations = 0;
    this.largestFragmentBytes = 0;
  }

  /** Become equal to another key. */
  copyFrom(from: FlowKey): void {
    const words = this.words;
    const source = from.words;
    const end = from.hasTunnel || this.hasTunnel ? KEY_WORDS : Word.TUNNEL;
    for (let i = 0; i < end; i += 1) words[i] = source[i];
    this.hasTunnel = from.hasTunnel;
    this.l3Offset = from.l3Offset;
    this.l4Offset = from.l4Offset;
    this.l3End = from.l3End;
    this.l3Type = from.l3Type;
    this.stale = from.stale;
    this.extractedEnd = Word.TUNNEL;
    this.hasEgress = from.hasEgress;
    this.recirculations = from.recirculations;
    this.largestFragmentBytes = from.largestFragmentBytes;
    this.identification = from.identification;
    if (from.hasEgress) this.egress.set(from.egress);
  }

  /** EtherType behind all tags. */
  get etherType(): number {
    return this.words[Word.ETH_TYPE] >>> 16;
  }

  /** Whether the packet has no Ethernet header. */
  get isL3(): boolean {
    return (this.words[Word.ETH_TYPE] & L3_MARKER) !== 0;
  }

  get inPort(): KeyPort {
    return inPortOf(this.words);
  }

  get recircId(): number {
    return this.words[Word.RECIRC_ID];
  }

  /** IP protocol, or the operation of ARP. */
  get protocol(): number {
    return this.words[Word.IP] >>> 24;
  }
}

/** The port that the words of a key say packets come in by. */
export function inPortOf(words: Uint32Array): KeyPort {
  return toKeyPort(words[Word.IN_PORT]);
}
