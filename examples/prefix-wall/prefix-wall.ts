/**
 * A filtering decider: a firewall by lists of prefixes, read from a file, which may change at any time. It shows how decisions rest on
 * a table: when the file changes, exactly the flows end whose answer may have changed, in the engine and in the kernel.
 * Neighbour: prefix-file.ts reads the file.
 */
import { resolve } from 'node:path';
import {
  type DeciderExtension,
  type DeciderHandle,
  type Decision,
  defineDecider,
  type FlowCounter,
  type JsonValue,
  messageOf,
  type ObservedPrefixes,
  type PacketView,
} from 'millrace/switch';
import { fileStamp, readPrefixFile, type Verdict } from './prefix-file.ts';

/** How often the file is looked at. */
const LOOK_MS = 500;
/** Prefixes that `show` lists at most. */
const MOST_SHOWN = 1000;

/** EtherTypes of IP, and of more VLAN tags than a decision can look behind: where no IP header could be read, one may be all the same. */
const MAY_BE_IP: readonly number[] = [0x0800, 0x86dd, 0x8100, 0x88a8];

interface Configuration {
  /** Path of the list. */
  readonly file: string;
  /** What becomes of sources that no prefix of the list covers. */
  readonly otherwise: Verdict;
}

function parseConfiguration(value: unknown): Configuration {
  const given: Readonly<Record<string, unknown>> = { otherwise: 'allow', ...(value as object | null) };
  const unknown = Object.keys(given).find((key) => key !== 'file' && key !== 'otherwise');
  if (unknown !== undefined) throw new Error(`unknown key "${unknown}"; there are file, otherwise`);
  const { file, otherwise } = given;
  if (typeof file !== 'string' || file === '') throw new Error('file: must be the path of a list of prefixes');
  if (otherwise !== 'allow' && otherwise !== 'deny') throw new Error('otherwise: must be allow or deny');
  // A daemon has no working folder of its own: paths are relative to this module.
  return { file: resolve(import.meta.dirname, file), otherwise };
}

class PrefixWall implements DeciderExtension {
  readonly #handle: DeciderHandle;
  readonly #file: string;
  readonly #otherwise: Verdict;
  readonly #list: ObservedPrefixes<Verdict>;
  readonly #denied: FlowCounter;
  readonly #passed: FlowCounter;
  /** Of the file when it was last read. */
  #stamp = '';
  /** What is wrong with the file as it is now; null for nothing. */
  #problem: string | null = null;

  constructor(handle: DeciderHandle, { file, otherwise }: Configuration) {
    this.#handle = handle;
    this.#file = file;
    this.#otherwise = otherwise;
    this.#list = handle.state.prefixes('list', ['ipv4', 'ipv6']);
    this.#denied = handle.counter('denied');
    this.#passed = handle.counter('passed');
    handle.dropReason('DENIED', 'The list denies the source address.');
    handle.dropReason('UNREADABLE', 'It may be IP, and its source address cannot be read.');
    // Without a list there is no wall: a file that is wrong from the start is an error of the start.
    this.#load();
  }

  attach(): void {
    if (this.#handle.host.setTimer !== undefined) this.#lookAgain();
  }

  decide(packet: PacketView, decision: Decision): void {
    const { ip } = packet;
    if (ip === null) {
      if (MAY_BE_IP.includes(packet.ethernet.type)) decision.drop('UNREADABLE');
      return;
    }
    const found = this.#list.find(ip.source);
    const isDenied = (found?.value ?? this.#otherwise) === 'deny';
    decision.count(isDenied ? this.#denied : this.#passed);
    if (isDenied) decision.drop('DENIED', () => `${found?.prefix ?? 'what is not on the list'} is denied`);
  }

  /** Read the file, and make the list what it says. @throws Error that names the lines that are wrong; then the list stays as it was */
  #load(): void {
    // Read before the file: when it changes meanwhile, it is read again.
    this.#stamp = fileStamp(this.#file);
    try {
      this.#list.replace(readPrefixFile(this.#file, (prefix) => this.#list.flaw(prefix)));
      this.#problem = null;
    } catch (error) {
      this.#problem = messageOf(error);
      throw error;
    }
  }

  #lookAgain(): void {
    this.#handle.setTimer(LOOK_MS, () => {
      this.#lookAgain();
      if (fileStamp(this.#file) === this.#stamp) return;
      try {
        this.#load();
        this.#handle.host.log('info', `${this.#file} was read again`, { prefixes: this.#list.size });
      } catch (error) {
        this.#handle.host.log('warn', `the list stays as it was: ${messageOf(error)}`);
      }
    });
  }

  status(): JsonValue {
    return { file: this.#file, prefixes: this.#list.size, otherwise: this.#otherwise, problem: this.#problem };
  }

  command(name: string): JsonValue {
    if (name === 'reload') this.#load();
    else if (name !== 'show') throw new Error(`there is no command "${name}"; there are show, reload`);
    const entries = this.#list.entries();
    return {
      ...(this.status() as object),
      list: Object.fromEntries(entries.slice(0, MOST_SHOWN).map(({ prefix, value }) => [prefix, value])),
    };
  }
}

export default defineDecider<Configuration>({
  descriptor: {
    name: 'prefix-wall',
    type: 'filtering',
    version: '1.0.0',
    description: 'lets packets pass or drops them by lists of source prefixes',
  },
  parseConfiguration,
  create: (handle, configuration) => new PrefixWall(handle, configuration),
});
