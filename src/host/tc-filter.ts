/**
 * Attaching a program to a device's traffic-control hooks the way before TCX: a cls_bpf filter with direct action under the clsact
 * discipline, through rtnetlink. Unlike a TCX link it outlives its process; one that a killed process left behind is taken over
 * by the next that opens the port.
 */
import {
  addBpfFilter,
  addClsact,
  Clsact,
  deleteClsact,
  deleteFilter,
  dumpFilters,
  parseFilter,
} from '../netlink/index.ts';
import { DROP_PROGRAM_NAME } from './drop-program.ts';
import { RouteClient } from './route-client.ts';
import { Errno, type FileDescriptor, SystemError } from './sys/index.ts';

// Behind everybody else's filters, which start from 1 or, where the kernel chooses, from 49152 downwards.
const PRIORITY = 0xfffe;
const HANDLE = 1;
const HOOKS = [Clsact.INGRESS, Clsact.EGRESS];

/** A program at both hooks of a device. */
export class FilterPair {
  readonly #client = new RouteClient();
  readonly #interfaceIndex: number;
  /** Whether clsact was there before any of our filters. */
  #othersClsact: boolean;
  #closed = false;

  /**
   * @param program its descriptor; it may be closed afterwards
   * @param interfaceIndex in the calling thread's network namespace
   * @throws SystemError; then nothing is left attached
   */
  constructor(program: FileDescriptor, interfaceIndex: number) {
    this.#interfaceIndex = interfaceIndex;
    try {
      const leftBehind = HOOKS.some((hook) =>
        this.#filters(hook).some((filter) => filter.bpf?.name === DROP_PROGRAM_NAME),
      );
      this.#othersClsact = !this.#addClsact() && !leftBehind;
      this.#addFilters(program);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #addFilters(program: FileDescriptor): void {
    const what = { descriptor: program.number, name: DROP_PROGRAM_NAME };
    for (const hook of HOOKS) this.#client.request(addBpfFilter(this.#place(hook), what, 'replace'));
  }

  /** Whether the program is at both hooks. @throws SystemError ENODEV when the device has gone */
  holds(): boolean {
    return HOOKS.every((hook) => this.#filters(hook).some(({ bpf }) => bpf?.name === DROP_PROGRAM_NAME));
  }

  /** Put the program at both hooks, wherever it is missing. @param program may be closed afterwards @throws SystemError */
  put(program: FileDescriptor): void {
    // With clsact all filters have gone: what is made now is ours.
    if (this.#addClsact()) this.#othersClsact = false;
    this.#addFilters(program);
  }

  /** How many filters of others are at the hooks: they run before ours. */
  get others(): number {
    return HOOKS.reduce(
      (sum, hook) =>
        sum +
        this.#filters(hook).filter((filter) => filter.bpf?.name !== DROP_PROGRAM_NAME && filter.handle !== 0).length,
      0,
    );
  }

  /** Remove the filters, and clsact when nobody else uses it. Closing twice is harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const hook of HOOKS) this.#attempt(() => this.#client.request(deleteFilter(this.#place(hook))));
    this.#attempt(() => {
      if (!this.#othersClsact && HOOKS.every((hook) => this.#filters(hook).length === 0)) {
        this.#client.request(deleteClsact(this.#interfaceIndex));
      }
    });
    this.#client.close();
  }

  #place(parent: number) {
    return { index: this.#interfaceIndex, parent, priority: PRIORITY, handle: HANDLE };
  }

  #filters(parent: number) {
    try {
      return this.#client.request(dumpFilters(this.#interfaceIndex, parent)).map(parseFilter);
    } catch (error) {
      // EINVAL: there is no clsact.
      if (error instanceof SystemError && error.errno === Errno.EINVAL) return [];
      throw error;
    }
  }

  /** @returns false when it was there */
  #addClsact(): boolean {
    try {
      this.#client.request(addClsact(this.#interfaceIndex));
      return true;
    } catch (error) {
      if (error instanceof SystemError && error.errno === Errno.EEXIST) return false;
      throw error;
    }
  }

  /** The device, or the filter, may be gone when we want to remove it. */
  #attempt(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
    }
  }
}
