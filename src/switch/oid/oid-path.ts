/**
 * The way of an OID: down the extensions from the top, carried out at the miniport edge, then back up so that each
 * extension it passed learns how it ended. An extension may pend it, and some OIDs it may complete or veto itself.
 * Neighbours: oid.ts has the types, miniport.ts carries OIDs out, oid-rules.ts says what an extension may do to which.
 */

import { RuleError } from '../errors.ts';
import type { SwitchCore } from '../path/core.ts';
import { guarded } from '../path/guard.ts';
import type { Slot } from '../stack/slot.ts';
import type { ExtensionStack } from '../stack/stack.ts';
import { messageOf } from '../thrown.ts';
import type { Miniport } from './miniport.ts';
import type { Oid, OidAction, OidRequest, Status } from './oid.ts';
import { checkCompletion, checkForward } from './oid-rules.ts';

/** One OID under way. */
export class OidFlight implements OidRequest {
  #oid: Oid;
  readonly sequence: number;
  readonly capacityBytes: number;
  output: unknown = null;
  extensionId = '';
  saveData: Uint8Array | null = null;
  bytesNeeded = 0;

  /** Where it still goes, and which slots it passed. */
  readonly route: readonly Slot[];
  position = 0;
  readonly passed: Slot[] = [];
  /** The slot that pends it now. */
  pendedBy: Slot | null = null;
  /** For a pended disconnect: references that the slot had on the port before. */
  referencesBefore = 0;
  status: Status | null = null;
  readonly onDone: (flight: OidFlight, status: Status) => void;

  constructor(
    oid: Oid,
    sequence: number,
    capacityBytes: number,
    route: readonly Slot[],
    onDone: (flight: OidFlight, status: Status) => void,
  ) {
    this.#oid = freeze(oid);
    this.sequence = sequence;
    this.capacityBytes = capacityBytes;
    this.route = route;
    this.onDone = onDone;
  }

  get oid(): Oid {
    return this.#oid;
  }

  /** Extensions see a frozen OID; one that tries to put another in its place is told so. */
  set oid(_other: Oid) {
    throw new RuleError(39, `an extension replaces OID ${this.sequence}`);
  }

  /** Who forwards does not answer: what it wrote all the same does not count. */
  clearAnswer(): void {
    this.output = null;
    this.extensionId = '';
    this.saveData = null;
    this.bytesNeeded = 0;
  }

  /** Send a NIC request elsewhere; who may was checked before. */
  redirect(portId: number, nicIndex: number): void {
    if (this.#oid.kind !== 'NIC_REQUEST') return;
    const request = { ...this.#oid.request, destinationPortId: portId, destinationNicIndex: nicIndex };
    this.#oid = freeze({ kind: 'NIC_REQUEST', request });
  }
}

/** Freeze an OID and the records in it, so that every extension sees the same. */
function freeze(oid: Oid): Oid {
  for (const value of Object.values(oid) as unknown[]) {
    if (typeof value === 'object' && value !== null && !ArrayBuffer.isView(value)) Object.freeze(value);
  }
  return Object.freeze(oid);
}

/** Sends OIDs on their way and keeps those that are under way. */
export class OidPath {
  readonly #core: SwitchCore;
  readonly #stack: ExtensionStack;
  readonly #miniport: Miniport;
  readonly #flights = new Set<OidFlight>();
  #sequence = 0;

  constructor(core: SwitchCore, stack: ExtensionStack, miniport: Miniport) {
    this.#core = core;
    this.#stack = stack;
    this.#miniport = miniport;
  }

  /** OIDs that have not ended. */
  get pending(): number {
    return this.#flights.size;
  }

  /**
   * Issue an OID from the protocol edge or, with `below`, from under an extension.
   * @param onDone told once how it ended; at once when nobody pends it
   */
  issue(
    oid: Oid,
    onDone: (flight: OidFlight, status: Status) => void,
    capacityBytes = Number.POSITIVE_INFINITY,
    below: Slot | null = null,
  ): void {
    const slots = this.#stack.flowing();
    const route = below === null ? slots : slots.filter((slot) => slot.rank > below.rank);
    this.#sequence += 1;
    const flight = new OidFlight(oid, this.#sequence, capacityBytes, [...route], onDone);
    this.#flights.add(flight);
    this.#run(flight);
  }

  /** Go on down from where the flight is. */
  #run(flight: OidFlight): void {
    while (flight.position < flight.route.length) {
      const slot = flight.route[flight.position];
      const action = slot.failed ? 'forward' : this.#ask(slot, flight);
      if (action === 'pending') {
        flight.pendedBy = slot;
        slot.pended.add(flight);
        return;
      }
      if (action !== 'forward') {
        this.#complete(flight, action);
        return;
      }
      flight.clearAnswer();
      flight.passed.push(slot);
      flight.position += 1;
    }
    this.#complete(flight, this.#miniport.execute(flight));
  }

  /** Call onOid; an answer that is not allowed is reported and taken as forward. */
  #ask(slot: Slot, flight: OidFlight): OidAction {
    const oid = flight.oid;
    if (oid.kind === 'NIC_DISCONNECT') {
      flight.referencesBefore = this.#references(slot, oid.nic.portId);
    }
    const action = guarded(this.#core, slot, `onOid ${oid.kind}`, () => slot.extension.onOid?.(flight)) ?? 'forward';
    // An extension that fails while it holds an OID has it forwarded for it; then the answer comes too late.
    if (slot.failed) return 'forward';
    if (action === 'forward' || action === 'pending') return action;
    try {
      checkCompletion(slot, flight, action);
    } catch (error) {
      this.#misuse(slot, error);
      return 'forward';
    }
    return action;
  }

  /** References that a slot holds on a port. */
  #references(slot: Slot, portId: number): number {
    return this.#core.ports[portId]?.references.of(slot.id) ?? 0;
  }

  #misuse(slot: Slot, error: unknown): void {
    const rule = error instanceof RuleError ? error.rule : 0;
    this.#core.onEvent({ type: 'misuse', name: slot.name, rule, message: messageOf(error) });
  }

  #complete(flight: OidFlight, status: Status): void {
    flight.status = status;
    for (let i = flight.passed.length - 1; i >= 0; i -= 1) {
      const slot = flight.passed[i];
      if (slot.failed) continue;
      guarded(this.#core, slot, `onOidComplete ${flight.oid.kind}`, () =>
        slot.extension.onOidComplete?.(flight, status),
      );
    }
    this.#flights.delete(flight);
    flight.onDone(flight, status);
    // A restart of the stack may be waiting for it.
    this.#core.waiters?.();
  }

  /**
   * An extension passes on what it pended.
   * @throws RuleError 32 when it does not pend it, 29 when it still holds references taken for a disconnect
   */
  forward(slot: Slot, request: OidRequest): void {
    const flight = this.#pended(slot, request);
    const oid = flight.oid;
    if (oid.kind === 'NIC_DISCONNECT') {
      checkForward(slot, this.#references(slot, oid.nic.portId), flight.referencesBefore);
    }
    this.#unpend(slot, flight);
    flight.clearAnswer();
    flight.passed.push(slot);
    flight.position += 1;
    this.#run(flight);
  }

  /** An extension completes what it pended. @throws RuleError when it may not */
  complete(slot: Slot, request: OidRequest, status: Status): void {
    const flight = this.#pended(slot, request);
    checkCompletion(slot, flight, status);
    this.#unpend(slot, flight);
    this.#complete(flight, status);
  }

  /** Send a NIC request elsewhere; who may was checked before. */
  redirect(request: OidRequest, portId: number, nicIndex: number): void {
    for (const flight of this.#flights) if (flight === request) flight.redirect(portId, nicIndex);
  }

  /** A slot is gone: what it pended goes on without it. */
  release(slot: Slot): void {
    for (const flight of [...slot.pended]) {
      this.#unpend(slot, flight);
      flight.position += 1;
      this.#run(flight);
    }
  }

  #pended(slot: Slot, request: OidRequest): OidFlight {
    for (const flight of slot.pended) if (flight === request) return flight;
    throw new RuleError(32, `${slot.name} does not pend OID ${request.sequence}`);
  }

  #unpend(slot: Slot, flight: OidFlight): void {
    slot.pended.delete(flight);
    flight.pendedBy = null;
  }
}
