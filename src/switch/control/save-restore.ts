/**
 * Save and restore of what extensions keep about a NIC, for moving it to another switch. Saving asks again and again, each
 * time one extension fills in a piece, until the OID reaches the miniport edge with nothing left to save.
 */

import { SwitchError } from '../errors.ts';
import type { Oid, SavedState } from '../oid/oid.ts';
import { statusError } from './control.ts';
import type { Nic } from './nic.ts';
import { Operation } from './operation.ts';
import { PropertyControl } from './property-control.ts';

/** Room for one piece at first, and what an extension may ask for. */
const FIRST_ROOM_BYTES = 4096;
const MAX_ROOM_BYTES = 16 << 20;
/** Pieces of one NIC, and times that one piece may ask for more room: an extension that always wants more would never end. */
const MAX_PIECES = 256;
const MAX_RETRIES = 8;

/** Calls about saved state. */
export class SaveRestore extends PropertyControl {
  saveNic(portId: number, nicIndex: number): Operation<readonly SavedState[]> {
    return this.attempt(() => {
      const nic = this.#begin(portId, nicIndex);
      const pieces: SavedState[] = [];
      const operation = new Operation<readonly SavedState[]>();
      const ask = (roomBytes: number, retries: number): void => {
        const oid: Oid = { kind: 'NIC_SAVE', portId, nicIndex };
        this.send(oid, roomBytes, (flight, status) => {
          if (status === 'BUFFER_TOO_SHORT' && flight.bytesNeeded <= MAX_ROOM_BYTES && retries < MAX_RETRIES) {
            ask(flight.bytesNeeded, retries + 1);
            return;
          }
          let error: SwitchError | null = status === 'SUCCESS' ? null : statusError(oid, status);
          if (error === null && flight.saveData !== null) {
            pieces.push({ extensionId: flight.extensionId, data: flight.saveData.slice() });
            if (pieces.length < MAX_PIECES) {
              ask(FIRST_ROOM_BYTES, 0);
              return;
            }
            error = new SwitchError('FAILED', `${flight.extensionId} does not come to an end of its state`);
          }
          this.#complete('NIC_SAVE_COMPLETE', nic, () => {
            if (error === null) operation.resolve(pieces);
            else operation.reject(error);
          });
        });
      };
      ask(FIRST_ROOM_BYTES, 0);
      return operation;
    });
  }

  restoreNic(portId: number, nicIndex: number, saved: readonly SavedState[]): Operation<readonly string[]> {
    return this.attempt(() => {
      if (saved.length > MAX_PIECES) {
        throw new SwitchError(
          'INVALID',
          `${saved.length} pieces of saved state are more than the ${MAX_PIECES} of a NIC`,
        );
      }
      const nic = this.#begin(portId, nicIndex);
      const unclaimed: string[] = [];
      const operation = new Operation<readonly string[]>();
      const give = (index: number): void => {
        const piece = saved[index];
        if (piece === undefined) {
          this.#complete('NIC_RESTORE_COMPLETE', nic, () => operation.resolve(unclaimed));
          return;
        }
        const oid: Oid = { kind: 'NIC_RESTORE', portId, nicIndex, saved: { ...piece, data: piece.data.slice() } };
        this.send(oid, Number.POSITIVE_INFINITY, (flight, status) => {
          if (status !== 'SUCCESS') {
            this.#complete('NIC_RESTORE_COMPLETE', nic, () => {
              operation.reject(
                new SwitchError(
                  'FAILED',
                  `${piece.extensionId} could not restore NIC ${nicIndex} of port ${portId}: ${status}`,
                ),
              );
            });
            return;
          }
          if (flight.output === 'unclaimed') unclaimed.push(piece.extensionId);
          give(index + 1);
        });
      };
      give(0);
      return operation;
    });
  }

  /** One save or restore at a time for a NIC; different NICs may overlap. */
  #begin(portId: number, nicIndex: number): Nic {
    const nic = this.readyNic(portId, nicIndex);
    if (nic.busy) throw new SwitchError('BUSY', `NIC ${nicIndex} of port ${portId} is being saved or restored already`);
    nic.busy = true;
    return nic;
  }

  #complete(kind: 'NIC_SAVE_COMPLETE' | 'NIC_RESTORE_COMPLETE', nic: Nic, then: () => void): void {
    this.send({ kind, portId: nic.port.portId, nicIndex: nic.nicIndex }, Number.POSITIVE_INFINITY, () => {
      nic.busy = false;
      then();
    });
  }
}
