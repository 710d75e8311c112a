/** What the load balancer is told, and what is wrong with it. */

export interface BackEnd {
  readonly name: string;
  /** The port of the switch behind which it is. */
  readonly at: string;
  readonly mac: string;
  readonly address: string;
  /** Where its service listens. */
  readonly port: number;
  /** Its part of all connections, by that of the others. */
  readonly weight: number;
}

export interface Configuration {
  /** The virtual address, and the MAC address that it has. */
  readonly address: string;
  readonly mac: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  /** The port of the switch behind which all but the back ends are. */
  readonly clients: string;
  readonly backEnds: readonly BackEnd[];
  /** Connections that are remembered; of more than these, those that began first may go elsewhere when back ends change. */
  readonly connections: number;
}

const MOST_BACK_ENDS = 256;

type Given = Readonly<Record<string, unknown>>;
type Check<T> = (value: unknown) => value is T;

const isName: Check<string> = (value): value is string => typeof value === 'string' && value !== '';
const isAddress: Check<string> = (value): value is string =>
  typeof value === 'string' &&
  /^\d{1,3}(\.\d{1,3}){3}$/.test(value) &&
  value.split('.').every((part) => Number(part) <= 255);
const isStation: Check<string> = (value): value is string =>
  typeof value === 'string' && /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value) && (Number.parseInt(value, 16) & 1) === 0;
const isPort: Check<number> = (value): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536;
const isCount: Check<number> = (value): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= 1_000_000;
const isWeight: Check<number> = (value): value is number =>
  typeof value === 'number' && value > 0 && value <= 1_000_000;

/** Takes fields out of a mapping, and says where something is wrong. */
class Reader {
  readonly #given: Given;
  readonly #where: string;
  readonly #taken: string[] = [];

  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null) throw new Error(`${where || 'it'} must be a mapping`);
    this.#given = value as Given;
    this.#where = where === '' ? '' : `${where}.`;
  }

  take<T>(key: string, check: Check<T>, what: string, otherwise?: T): T {
    this.#taken.push(key);
    const value = this.#given[key] ?? otherwise;
    if (!check(value)) throw new Error(`${this.#where}${key}: must be ${what}`);
    return value;
  }

  /** @throws Error for a key that nobody has taken */
  end(): void {
    const unknown = Object.keys(this.#given).find((key) => !this.#taken.includes(key));
    if (unknown !== undefined)
      throw new Error(`unknown key "${this.#where}${unknown}"; there are ${this.#taken.join(', ')}`);
  }
}

/** @throws Error saying what is wrong with which field */
export function parseConfiguration(value: unknown): Configuration {
  const reader = new Reader(value, '');
  const isProtocol = (given: unknown): given is 'tcp' | 'udp' => given === 'tcp' || given === 'udp';
  const isList = (given: unknown): given is unknown[] =>
    Array.isArray(given) && given.length > 0 && given.length <= MOST_BACK_ENDS;
  const list = reader.take('backEnds', isList, `a list of 1 to ${MOST_BACK_ENDS}`);
  const configuration: Configuration = {
    address: reader.take('address', isAddress, 'an IPv4 address'),
    mac: reader.take('mac', isStation, 'a MAC address that is no group'),
    protocol: reader.take('protocol', isProtocol, 'tcp or udp', 'tcp'),
    port: reader.take('port', isPort, 'a port number'),
    clients: reader.take('clients', isName, 'the name of a port of the switch'),
    backEnds: list.map((each, index) => parseBackEnd(each, `backEnds[${index}]`)),
    connections: reader.take('connections', isCount, 'a whole number of 1 to 1000000', 65_536),
  };
  reader.end();
  for (const key of ['name', 'mac', 'address'] as const) {
    const values = configuration.backEnds.map((backEnd) => backEnd[key].toLowerCase());
    const twice = values.find((each, index) => values.indexOf(each) !== index);
    if (twice !== undefined) throw new Error(`backEnds: two have the ${key} ${twice}`);
  }
  return configuration;
}

function parseBackEnd(value: unknown, where: string): BackEnd {
  const reader = new Reader(value, where);
  const name = reader.take('name', isName, 'a name');
  const backEnd: BackEnd = {
    name,
    at: reader.take('at', isName, 'the name of a port of the switch', name),
    mac: reader.take('mac', isStation, 'a MAC address that is no group'),
    address: reader.take('address', isAddress, 'an IPv4 address'),
    port: reader.take('port', isPort, 'a port number'),
    weight: reader.take('weight', isWeight, 'a number above 0', 1),
  };
  reader.end();
  return backEnd;
}
