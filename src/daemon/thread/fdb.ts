/**
 * The forwarding database, which an extension has: the configuration's settings, limits and static entries go into that extension's own configuration, and
 * what happens to it is told. Both sides speak of ports by name.
 */
import type { Operation } from '../../switch/index.ts';
import type { FullAddressTable } from '../api.ts';
import { DEFAULT_AGEING_SECONDS, DEFAULT_FDB_MAXIMUM, type Extension, type StaticAddress } from '../config/model.ts';
import { ADDRESS_KEEPER } from '../extensions.ts';
import type { ConfiguredStack } from './configured-stack.ts';
import type { DatapathPorts } from './ports.ts';

/** Most moves told of at once: a loop makes thousands. */
const MOVES_TOLD = 8;
/** A table that stays full is told of once in so long. */
const FULL_TOLD_EVERY_MS = 60_000;

/** What people are told of a table that is full. */
export function fullTableText(capacity: number, port: string, addresses: number): string {
  return `the address table is full: of ${capacity} addresses, ${addresses} are behind port ${port}, which gives up those that it has not used for longest when new ones come`;
}

/** The database of one switch. */
export class ForwardingDatabase {
  readonly #stack: ConfiguredStack;
  readonly #ports: DatapathPorts;
  #ageingSeconds = DEFAULT_AGEING_SECONDS;
  #maximum = DEFAULT_FDB_MAXIMUM;
  #static: StaticAddress[] = [];
  #movesTold = 0;
  /** Addresses that had been exchanged when that was told last, and when. */
  #exchangedTold = 0;
  #fullToldMs = Number.NEGATIVE_INFINITY;

  constructor(stack: ConfiguredStack, ports: DatapathPorts) {
    this.#stack = stack;
    this.#ports = ports;
  }

  /** The settings that an extension of the stack is given; for learning, those of ports and database are added to its own. */
  settingsFor(extension: Extension): Record<string, unknown> {
    if (extension.name !== ADDRESS_KEEPER || extension.module !== null) return extension.config;
    const ports: Record<string, unknown> = {};
    for (const { name, config } of this.#ports.all()) if (config.learning !== undefined) ports[name] = config.learning;
    return {
      ageingSeconds: this.#ageingSeconds,
      maximum: this.#maximum,
      ...extension.config,
      ports: { ...(extension.config.ports as object | undefined), ...ports },
      static: withStatic(extension.config.static, this.#static),
    };
  }

  setSettings(ageingSeconds: number, maximum: number): Operation<void> | null {
    this.#ageingSeconds = ageingSeconds;
    this.#maximum = maximum;
    return this.refresh();
  }

  addStatic(entry: StaticAddress): Operation<void> | null {
    this.#static = [...this.#static, entry];
    return this.refresh();
  }

  removeStatic({ mac, vlan }: StaticAddress): Operation<void> | null {
    this.#static = this.#static.filter((entry) => entry.mac !== mac || entry.vlan !== vlan);
    return this.refresh();
  }

  /** Ports have come, gone or got other settings: those that concern addresses go to the extension, and end no flows of other ports. */
  portsChanged(): void {
    if (!this.#stack.running(ADDRESS_KEEPER)) return;
    const settings = this.#stack.settings(ADDRESS_KEEPER);
    if ('ports' in settings) this.#stack.ask(ADDRESS_KEEPER, 'ports', settings.ports as Record<string, unknown>);
  }

  /** Limits or entries have changed: hand them to the extension, if it is there. */
  refresh(): Operation<void> | null {
    return this.#stack.running(ADDRESS_KEEPER) ? this.#stack.refresh(ADDRESS_KEEPER) : null;
  }

  /** Forget what was learned behind a port, if anything keeps addresses now. */
  forgetPort(port: string): void {
    if (this.#stack.running(ADDRESS_KEEPER)) this.#stack.ask(ADDRESS_KEEPER, 'flush', { port });
  }

  /** Addresses known now, static ones included. */
  count(): number {
    return this.#stack.running(ADDRESS_KEEPER) ? this.#stack.statusOf(ADDRESS_KEEPER).entries : 0;
  }

  /** Addresses that have moved from port to port since the last call, newest last; of many, the last ones and how many more. */
  takeMoves(): { subject: string; message: string }[] {
    if (!this.#stack.running(ADDRESS_KEEPER)) {
      this.#movesTold = 0;
      return [];
    }
    const { moves, recentMoves } = this.#stack.statusOf(ADDRESS_KEEPER);
    const fresh = Math.max(0, moves - this.#movesTold);
    this.#movesTold = moves;
    const told = recentMoves.slice(0, Math.min(fresh, MOVES_TOLD)).reverse();
    const events = told.map(({ mac, vlan, from, to }) => ({
      subject: to,
      message: `${mac} (VLAN ${vlan}) moved from port ${from} to port ${to}`,
    }));
    const more = fresh - told.length;
    if (more > 0)
      events.push({ subject: '', message: `${more} more addresses moved: is there a loop, or one address twice?` });
    return events;
  }

  /** The table, when it is full. */
  full(): FullAddressTable | null {
    if (!this.#stack.running(ADDRESS_KEEPER)) return null;
    const { fullest, exchanged } = this.#stack.statusOf(ADDRESS_KEEPER);
    return fullest === null ? null : { ...fullest, exchanged };
  }

  /** Whether addresses have made room for others since that was told last. */
  takeFull(nowMs: number): { subject: string; message: string } | null {
    if (!this.#stack.running(ADDRESS_KEEPER)) return null;
    const { exchanged, fullest, maximum } = this.#stack.statusOf(ADDRESS_KEEPER);
    // A table that was made anew counts from zero.
    if (exchanged < this.#exchangedTold) this.#exchangedTold = 0;
    if (exchanged === this.#exchangedTold || fullest === null) return null;
    if (nowMs - this.#fullToldMs < FULL_TOLD_EVERY_MS) return null;
    this.#exchangedTold = exchanged;
    this.#fullToldMs = nowMs;
    const advice = `millrace port set ${fullest.port} learning.limit=N bounds them`;
    return { subject: fullest.port, message: `${fullTableText(maximum, fullest.port, fullest.addresses)}; ${advice}` };
  }
}

/** Static entries of the extension's own settings, and those of `fdb`, which win where both name an address. What is no list is for the extension to refuse. */
function withStatic(own: unknown, entries: readonly StaticAddress[]): unknown {
  if (own === undefined) return entries;
  return Array.isArray(own) ? [...(own as unknown[]), ...entries] : own;
}
