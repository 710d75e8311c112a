/**
 * Outputs of a packet as it is at one moment. Ports may want another VLAN tag each: those that take the packet as it is come first, so that most of them need no
 * copy; then each way in which the tag changes.
 */
import { ActionBuilder, TAG_PRESENT } from '../flow/index.ts';
import { EtherType, TagAction } from '../net/index.ts';
import type { PortNumber } from './port-number.ts';

export class WaitingOutputs {
  readonly #ports: PortNumber[] = [];
  readonly #tags: number[] = [];
  #changesTag = false;

  clear(): void {
    this.#ports.length = 0;
    this.#tags.length = 0;
    this.#changesTag = false;
  }

  /** @param tag a TagAction with the TCI in its low bits */
  add(port: PortNumber, tag: number): void {
    this.#ports.push(port);
    this.#tags.push(tag);
    if (tag !== TagAction.KEEP) this.#changesTag = true;
  }

  /**
   * Write what waits.
   * @param isLast nothing is done to the packet afterwards, so that the last change need not be made to a copy
   */
  flush(builder: ActionBuilder, isLast: boolean): void {
    if (this.#ports.length === 0) return;
    this.#write(builder, TagAction.KEEP);
    const changes = this.#changesTag ? [...new Set(this.#tags)].filter((tag) => tag !== TagAction.KEEP) : [];
    changes.forEach((tag, i) => {
      const isInPlace = isLast && i === changes.length - 1;
      const list = isInPlace ? builder : new ActionBuilder();
      if ((tag & TagAction.STRIP) !== 0) list.popVlan();
      if ((tag & TagAction.PUSH) !== 0) list.pushVlan(EtherType.VLAN, (tag & 0xffff) | TAG_PRESENT);
      this.#write(list, tag);
      if (!isInPlace) builder.clone(list.finish());
    });
    this.clear();
  }

  #write(builder: ActionBuilder, tag: number): void {
    for (let i = 0; i < this.#ports.length; i += 1) if (this.#tags[i] === tag) builder.output(this.#ports[i]);
  }
}
