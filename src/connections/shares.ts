/**
 * Who has how many connections, by zone or by port, so that none takes the room of all. A share is what the table has room for beside its reserve, divided by those who have
 * connections now.
 */

interface Share {
  count: number;
  /** Of these, connections that nobody has answered yet. */
  unreplied: number;
}

export class Shares {
  readonly #room: number;
  readonly #owners = new Map<number, Share>();

  /** @param room connections that all shares together are */
  constructor(room: number) {
    this.#room = room;
  }

  /** Whether there are several who have connections. */
  get areMany(): boolean {
    return this.#owners.size > 1;
  }

  /** Connections of an owner. */
  count(owner: number): number {
    return this.#owners.get(owner)?.count ?? 0;
  }

  /** Connections of an owner that nobody has answered. */
  unreplied(owner: number): number {
    return this.#owners.get(owner)?.unreplied ?? 0;
  }

  /** All owners with their connections. */
  *counts(): IterableIterator<[owner: number, count: number]> {
    for (const [owner, share] of this.#owners) yield [owner, share.count];
  }

  add(owner: number, isUnreplied: boolean): void {
    let share = this.#owners.get(owner);
    if (share === undefined) {
      share = { count: 0, unreplied: 0 };
      this.#owners.set(owner, share);
    }
    share.count += 1;
    if (isUnreplied) share.unreplied += 1;
  }

  remove(owner: number, isUnreplied: boolean): void {
    const share = this.#owners.get(owner);
    if (share === undefined) return;
    share.count -= 1;
    if (isUnreplied) share.unreplied -= 1;
    if (share.count === 0) this.#owners.delete(owner);
  }

  /** One of an owner's connections got its first answer. */
  replied(owner: number): void {
    const share = this.#owners.get(owner);
    if (share !== undefined) share.unreplied -= 1;
  }

  /** Whether an owner has its share or more; the share of one who is alone is all of it. */
  isFull(owner: number): boolean {
    const share = this.#owners.get(owner);
    return share !== undefined && share.count * this.#owners.size >= this.#room;
  }
}
