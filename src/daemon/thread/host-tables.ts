/**
 * The service `hostTables` of the switch's host services: the host's routes, neighbours and addresses for who sends packets of the host's own. Nothing is opened before
 * somebody asks, so that a switch without tunnels has neither sockets nor clocks for it.
 */
import { type EventLoop, type LinuxTables, openHostTables, type TablesReport } from '../../host/index.ts';
import type { HostTables, HostTablesService } from '../../net/index.ts';

/** Namespaces beside the daemon's own whose tables may be open. */
const NAMESPACES_MAXIMUM = 64;

export class SwitchHostTables implements HostTablesService {
  readonly #loop: EventLoop;
  readonly #warn: (message: string) => void;
  #own: LinuxTables | null = null;
  readonly #others = new Map<string, LinuxTables>();
  #isClosed = false;

  /** @param warn told what people should know */
  constructor(loop: EventLoop, warn: (message: string) => void) {
    this.#loop = loop;
    this.#warn = warn;
  }

  tables(): HostTables {
    this.#check();
    this.#own ??= openHostTables(this.#loop, { warn: this.#warn });
    return this.#own;
  }

  tablesOf(namespacePath: string): HostTables {
    this.#check();
    const known = this.#others.get(namespacePath);
    if (known !== undefined) return known;
    if (this.#others.size >= NAMESPACES_MAXIMUM) {
      throw new Error(`the tables of ${NAMESPACES_MAXIMUM} network namespaces are open, and there may be no more`);
    }
    const warn = (message: string) => this.#warn(`${namespacePath}: ${message}`);
    const tables = openHostTables(this.#loop, { warn, namespacePath });
    this.#others.set(namespacePath, tables);
    return tables;
  }

  #check(): void {
    if (this.#isClosed) throw new Error('the switch is closed');
  }

  /** What is open, by namespace; '' is the daemon's own. */
  describe(): ReadonlyMap<string, TablesReport> {
    const reports = new Map<string, TablesReport>();
    if (this.#own !== null) reports.set('', this.#own.describe());
    for (const [path, tables] of this.#others) reports.set(path, tables.describe());
    return reports;
  }

  /** Packets that wait are given back. Closing twice is harmless. */
  close(): void {
    this.#isClosed = true;
    this.#own?.close();
    this.#own = null;
    for (const tables of this.#others.values()) tables.close();
    this.#others.clear();
  }
}
