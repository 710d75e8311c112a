/**
 * TC programs without TCX: a cls_bpf filter with direct action in the clsact discipline, by rtnetlink. It outlives the process, as a filter
 * has no descriptor; whoever attached it finds it again by interface, direction, priority and handle.
 * Neighbours: link/tcx.ts is the way where Linux 6.6 is there; link/tc.ts chooses.
 */
import { SystemError } from '../../host/sys/index.ts';
import { addBpfFilter, addClsact, Clsact, deleteClsact, deleteFilter, type FilterPlace } from '../../netlink/index.ts';
import { AttachConflictError, NoInterfaceError } from '../errors.ts';
import type { Program } from '../program/program.ts';
import { netdevIndex } from '../sys/netdev.ts';
import { ask } from '../sys/netlink.ts';
import { type AttachedFilter, type Direction, hasClsact, queryClsact } from './query.ts';

/** Where to put a filter. */
export interface ClsactAttachment {
  readonly program: Program;
  /** Name or index. */
  readonly netdev: string | number;
  readonly direction: Direction;
  /** 1 is asked first; by default the first one free. */
  readonly priority?: number;
  /** Handle within the priority; 1 by default. */
  readonly handle?: number;
}

const MOST_PRIORITIES = 0xffff;

/** A filter that holds a program. */
export class ClsactFilter {
  readonly place: FilterPlace;
  readonly direction: Direction;
  /** True when this handle added the discipline, and so removes it when it is left empty. */
  readonly #addedDiscipline: boolean;
  #detached = false;

  constructor(place: FilterPlace, direction: Direction, addedDiscipline: boolean) {
    this.place = place;
    this.direction = direction;
    this.#addedDiscipline = addedDiscipline;
  }

  /** What is in the place now; undefined when the filter is gone. @throws SystemError */
  info(): AttachedFilter | undefined {
    return queryClsact(this.place.index, this.direction).find(
      ({ priority, handle }) => priority === this.place.priority && handle === this.place.handle,
    );
  }

  /**
   * Put another program in its place, between two packets.
   * @throws NoInterfaceError, SystemError
   */
  update(program: Program): void {
    change(this.place.index, `update the filter on interface ${this.place.index}`, () =>
      ask(addBpfFilter(this.place, { descriptor: program.fd, name: program.name }, 'replace')),
    );
  }

  /** Remove the filter, and the discipline if this handle added it and nothing else uses it. What is gone already is no error. */
  detach(): void {
    if (this.#detached) return;
    this.#detached = true;
    const { index } = this.place;
    try {
      ask(deleteFilter(this.place));
      const isEmpty = queryClsact(index, 'ingress').length === 0 && queryClsact(index, 'egress').length === 0;
      if (this.#addedDiscipline && isEmpty && hasClsact(index)) ask(deleteClsact(index));
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }
}

/**
 * Attach a TC program by a filter.
 * @throws AttachConflictError when the place asked for is taken, or none is free
 * @throws NoInterfaceError, SystemError
 */
export function attachClsact(attachment: ClsactAttachment): ClsactFilter {
  const { program, netdev, direction, handle = 1 } = attachment;
  const doing = `attach TC program "${program.name}" to ${netdev} ${direction}`;
  const index = netdevIndex(netdev, doing);
  const parent = direction === 'ingress' ? Clsact.INGRESS : Clsact.EGRESS;
  return change(`${netdev}`, doing, () => {
    const addedDiscipline = !hasClsact(index) && succeeds(() => ask(addClsact(index)), 'EEXIST');
    const taken = new Set(queryClsact(index, direction).map(({ priority }) => priority));
    let priority = attachment.priority ?? 1;
    if (attachment.priority === undefined) while (taken.has(priority)) priority++;
    if (priority > MOST_PRIORITIES) throw new AttachConflictError(`cannot ${doing}: no priority is free`);
    const place = { index, parent, priority, handle };
    const name = program.name;
    if (!succeeds(() => ask(addBpfFilter(place, { descriptor: program.fd, name })), 'EEXIST')) {
      throw new AttachConflictError(
        `cannot ${doing}: priority ${priority} handle ${handle} holds another filter, which is left in place`,
      );
    }
    return new ClsactFilter(place, direction, addedDiscipline);
  });
}

/**
 * Adopt a filter that an earlier process attached.
 * @returns undefined when there is none in the place
 * @throws NoInterfaceError, SystemError
 */
export function adoptClsact(
  netdev: string | number,
  direction: Direction,
  priority: number,
  handle = 1,
): ClsactFilter | undefined {
  const index = netdevIndex(netdev, 'adopt a filter');
  const parent = direction === 'ingress' ? Clsact.INGRESS : Clsact.EGRESS;
  const filter = new ClsactFilter({ index, parent, priority, handle }, direction, false);
  return filter.info() === undefined ? undefined : filter;
}

/** @returns false when it failed with the code given */
function succeeds(action: () => unknown, code: string): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.code === code) return false;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof SystemError && ['ENODEV', 'ENOENT', 'EINVAL', 'ENXIO'].includes(error.code);
}

function change<T>(netdev: string | number, doing: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof SystemError && error.code === 'ENODEV') throw new NoInterfaceError(`${netdev}`, doing);
    throw error;
  }
}
