/** Which clients behind a port have asked a DHCP server for something. Part of address bindings: an answer counts only where somebody has asked. */

/** Exchanges of one port that are under way at once, and how long a client waits. */
const MAX_EXCHANGES = 16;
const EXCHANGE_MS = 120_000;

interface Exchange {
  readonly transaction: number;
  readonly mac: Uint8Array;
  readonly vlan: number;
  readonly untilMs: number;
}

/** Questions of clients that no server has answered yet; the oldest gives way. */
export class Exchanges {
  #open: Exchange[] = [];

  note(transaction: number, bytes: Uint8Array, macAt: number, vlan: number, nowMs: number): void {
    const mac = bytes.slice(macAt, macAt + 6);
    const others = this.#open.filter((one) => one.untilMs > nowMs && one.transaction !== transaction);
    this.#open = [...others.slice(1 - MAX_EXCHANGES), { transaction, mac, vlan, untilMs: nowMs + EXCHANGE_MS }];
  }

  /** The MAC address of who asked; null when nobody did. */
  find(transaction: number, vlan: number, nowMs: number): Uint8Array | null {
    const found = this.#open.find((one) => one.transaction === transaction && one.vlan === vlan && one.untilMs > nowMs);
    return found?.mac ?? null;
  }
}
