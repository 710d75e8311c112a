/**
 * What of a flow table's packets is handed down: those that programs know everything about that the engine does, whose flow is carried, and for which it pays. down-path.ts sends them.
 */
import { type FlowKey, resumeTicket, writeResumeRecord } from '../../flow/index.ts';
import type { PuntRecord } from '../../host/index.ts';
import type { Packet } from '../../net/index.ts';
import {
  canGoDown,
  DOWN_HEADER_BYTES,
  type DownEntry,
  DownPolicy,
  type FlowOffload,
  writeDownHeader,
} from '../../offload/index.ts';
import type { DownPath } from './down-path.ts';

export class TableDown {
  /** Packets that went down, and those of them that came up again. */
  handedDown = 0;
  cameUp = 0;
  readonly #flows: FlowOffload;
  readonly #path: DownPath;
  readonly #policy = new DownPolicy();
  #entry: DownEntry | null = null;

  constructor(flows: FlowOffload, path: DownPath) {
    this.#flows = flows;
    this.#path = path;
  }

  /** As FlowRegistration.handDown. */
  handDown(slot: number, packet: Packet, key: FlowKey): boolean {
    const policy = this.#policy;
    const ticket = policy.ticketOf(slot);
    if (!policy.pays(ticket, packet.length) || !canGoDown(packet, key)) return false;
    const ifindex = this.#flows.wayDown(slot, key.inPort);
    const entry = this.#flows.downEntry;
    if (ifindex === 0 || entry === null) return false;
    const place = this.#path.placeOf(entry);
    const { before } = this.#path;
    if (place === -1 || before === null) return false;
    this.#entry = entry;
    // The packet itself may be one of those that have come up and are not worked off.
    if (!policy.wants(ticket, this.#flows.underWay(ifindex) <= 1)) return false;
    const headerBytes = writeDownHeader(packet.bytes, packet.offset, place, ifindex, before, 0);
    const beforeBytes = headerBytes + writeResumeRecord(key, before, headerBytes, ticket);
    if (!this.#path.send(packet, beforeBytes, headerBytes > DOWN_HEADER_BYTES)) {
      policy.cameBack(ticket);
      return false;
    }
    this.handedDown += 1;
    return true;
  }

  /** As FlowRegistration.wentOn. */
  wentOn(slot: number, lookUps: number, isCopied: boolean): void {
    this.#policy.wentOn(this.#policy.ticketOf(slot), lookUps, isCopied);
  }

  /** A packet has come up with a record. */
  cameBack(record: PuntRecord): void {
    const ticket = resumeTicket(record);
    if (ticket === 0) return;
    this.cameUp += 1;
    this.#policy.cameBack(ticket);
  }

  close(): void {
    if (this.#entry !== null) this.#path.forget(this.#entry);
    this.#entry = null;
  }
}
