/**
 * Whether packets of a flow can be handed down to the programs of its table: programs for that are asked for when the first could be, and a packet goes down only to a flow that is carried
 * from then on, so that it does not come up again at once. Neighbours: down/entry.ts is where it comes in, flow-offload.ts tells of programs.
 */
import { BpfError } from '../../bpf/index.ts';
import type { InterfaceIndex, KeyPort } from '../../net/index.ts';
import { DownEntry } from '../down/entry.ts';
import type { ProgramMaps } from '../layout/maps.ts';
import type { LoadedProgram } from '../program/load.ts';
import type { HookState } from './hook-state.ts';
import type { Placement } from './placement.ts';
import type { OffloadPorts } from './ports.ts';

export class HandingDown {
  readonly #tc: HookState;
  readonly #placement: Placement;
  readonly #ports: OffloadPorts;
  #entry: DownEntry | null = null;
  #isReady = false;

  constructor(tc: HookState, placement: Placement, ports: OffloadPorts) {
    this.#tc = tc;
    this.#placement = placement;
    this.#ports = ports;
  }

  /** Where packets come in; null while none can. */
  get entry(): DownEntry | null {
    return this.#isReady ? this.#entry : null;
  }

  /** The interface of a port by which packets of a flow can be handed down now; 0 when none can. */
  wayDown(slot: number, number: KeyPort): InterfaceIndex | 0 {
    const tc = this.#tc;
    const entry = tc.entryOf(slot);
    if (entry === 0 || tc.handsDown === null) return 0;
    if (!tc.handsDown) {
      tc.handsDown = true;
      tc.dirty = true;
    }
    // While its word is not 0, packets of the flow may have to go up.
    if (!this.#isReady || this.#placement.tables.entries.orderOf(entry) !== 0) return 0;
    const port = this.#ports.byNumber(number);
    if (port === undefined || port.hook === null || port.tapLike || port.puntIfindex === 0) return 0;
    return this.#placement.ports.isHeld(port.ifindex) ? 0 : port.ifindex;
  }

  /** These run at tc from now on; null for none. */
  installed(tc: LoadedProgram | null, maps: ProgramMaps): void {
    this.#isReady = false;
    if (tc?.plan.handsDown !== true || tc.again === null) return;
    try {
      this.#entry ??= new DownEntry(maps);
      this.#entry.goOnWith(tc.again);
      this.#isReady = true;
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      this.#tc.handsDown = null;
    }
  }

  close(): void {
    this.#isReady = false;
    this.#entry?.close();
    this.#entry = null;
  }
}
