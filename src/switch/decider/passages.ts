/**
 * What a filtering decider that stands by itself tells a forwarding extension that is none: whether packets may go past it, from what it would decide. Neighbours: filtering.ts
 * asks, path/passage.ts has the terms, path/shortcut.ts puts the answers of all together.
 */
import { type DecidedFlows, type DecisionRecord, Reliance } from '../../decide/index.ts';
import { Extraction, extract, FlowKey, TAG_PRESENT, Word } from '../../flow/index.ts';
import { EtherType, type Packet } from '../../net/index.ts';
import type { DropReasonCode } from '../drop-reason.ts';
import { HeaderField, type Passage } from '../path/passage.ts';

/** Bits of a key that every packet of a shortcut agrees in. */
const AGREED: ReadonlyMap<number, number> = new Map([
  [Word.RECIRC_ID, 0xffff_ffff],
  [Word.IN_PORT, 0xffff_ffff],
  [Word.ETH_TYPE, 0xffff_0000],
  [Word.MAC, 0xffff_ffff],
  [Word.MAC + 1, 0xffff_ffff],
  [Word.MAC + 2, 0xffff_ffff],
  [Word.VLAN, 0xffff_ffff],
  [Word.INNER_VLAN, TAG_PRESENT],
]);

export class Passages {
  readonly #reliance: Reliance;
  readonly #reasonOf: (record: DecisionRecord) => DropReasonCode;
  readonly #key = new FlowKey();

  /** @param changed told when what was answered may not hold any more */
  constructor(reasonOf: (record: DecisionRecord) => DropReasonCode, changed: () => void) {
    this.#reasonOf = reasonOf;
    this.#reliance = new Reliance(changed);
  }

  /**
   * What is decided about packets like one: see Passage.
   * @param portId that is noted as their recirculation; 0 for the way down
   * @returns null when each must be seen
   */
  of(flows: DecidedFlows, packet: Packet, sourcePortId: number, portId: number): Passage | null {
    const key = this.#key;
    key.begin(sourcePortId);
    key.words[Word.RECIRC_ID] = portId;
    if (extract(packet, key) !== Extraction.DONE) return null;
    const record = flows.answer(key.words, () => packet.frame(), this.#reliance);
    // What is sent on is sent by one output: anything else changes it.
    if (record === null || record.actions.length > 2) return null;
    const fields = headerFields(record.mask, key.etherType);
    if (fields === -1) return null;
    const { counters } = record;
    return {
      fields,
      ...(record.drop === null ? {} : { drop: this.#reasonOf(record) }),
      ...(counters.length === 0
        ? {}
        : {
            carried: (packets: number, bytes: number) => {
              for (const counter of counters) counter.add(packets, bytes);
            },
          }),
    };
  }

  /** Nobody relies on answers any more. */
  release(): void {
    this.#reliance.release();
  }
}

/** What a mask looks at beyond what all packets of a shortcut agree in: bits of HeaderField; -1 when these cannot tell it. */
function headerFields(mask: Uint32Array, etherType: number): number {
  let fields = 0;
  for (let word = 0; word < mask.length; word += 1) {
    const bits = mask[word] & ~(AGREED.get(word) ?? 0);
    if (bits === 0) continue;
    const own = headerField(word, bits, etherType);
    if (own === -1) return -1;
    fields |= own;
  }
  // Ports, addresses and flags are those of a protocol.
  return fields === 0 ? 0 : fields | HeaderField.PROTOCOL;
}

function headerField(word: number, bits: number, etherType: number): number {
  const within = (allowed: number, field: number): number => ((bits & ~allowed) === 0 ? field : -1);
  switch (word) {
    case Word.ETH_TYPE:
      // Whether headers could be read.
      return within(0xff00, HeaderField.PROTOCOL);
    case Word.IP:
      return etherType === EtherType.ARP ? -1 : within(0xff00_00ff, HeaderField.PROTOCOL);
    case Word.PORTS:
      return bits >>> 16 === 0 ? HeaderField.DESTINATION_PORT : HeaderField.PORTS;
    case Word.TCP_FLAGS:
      return within(0xffff_0000, HeaderField.TCP_FLAGS);
    default:
      return isAddress(word, etherType) ? HeaderField.ADDRESSES : -1;
  }
}

function isAddress(word: number, etherType: number): boolean {
  const last = etherType === EtherType.IPV4 ? Word.IPV4_DESTINATION : Word.IPV6_DESTINATION + 3;
  const isIp = etherType === EtherType.IPV4 || etherType === EtherType.IPV6;
  return isIp && word >= Word.IPV4_SOURCE && word <= last;
}
