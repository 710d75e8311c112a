/**
 * A million connections: the memory of each, how long it takes to list them by Open vSwitch's program and by Millrace's, and to end a zone of 100,000. OVS's userspace datapath is asked the same, with
 * the same rules.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { memorySizes } from '../../src/connections/index.ts';
import { FirstPackets, SOURCE_PORTS } from '../measure/first-packets.ts';
import { NotAvailable } from '../peers/peer.ts';
import { progress, run } from '../shell.ts';
import { TwoHosts } from '../two-host.ts';
import { MillraceFirewall, type OpenFlowFirewall, UserspaceFirewall } from './firewalls.ts';
import { PORT_OF_OTHER_ZONE, ZONES } from './rules.ts';

/** Seconds; of one of those that are compared. */
export interface ManyFigures {
  readonly connections: number;
  /** `ovs-appctl dpctl/dump-conntrack` of all. */
  readonly dumpSeconds: number;
  /** `ovs-appctl dpctl/flush-conntrack zone=` of 100,000, with no others there, and with all others. */
  readonly zoneAloneSeconds: number;
  readonly zoneAmongAllSeconds: number;
  /** `millrace connections list` of all, and `flush --zone` of 100,000 among all. */
  readonly listSeconds?: number;
  readonly flushSeconds?: number;
  readonly bytesPerConnection?: number;
}

export interface MillionFigures {
  readonly many: Readonly<Record<string, ManyFigures>>;
  readonly notAvailable: Readonly<Record<string, string>>;
}

const MANY = 1_000_000;
const IN_ZONE = 100_000;
/** A table that is nearly full has connections make room for others. */
const ROOM = 1_250_000;
/** Slowly enough for everybody to make a connection of each packet, nearly. */
const PPS = { netdev: 30_000, system: 90_000 } as const;
/** So many more than are missing are sent: some are lost. */
const MORE = 1000;
const FIRST_PORT = 10_000;
const LAST_SECONDS = 3600;
const TIME_OUT_MS = 240_000;

/** Measure once: each takes a minute. */
export async function benchMillion(): Promise<MillionFigures> {
  const many: Record<string, ManyFigures> = {};
  const notAvailable: Record<string, string> = {};
  for (const firewall of [new UserspaceFirewall(), new MillraceFirewall('tc', ROOM)]) {
    progress(`${MANY.toLocaleString('en')} connections, ${firewall.title}`);
    const hosts = new TwoHosts('m');
    try {
      hosts.create();
      await firewall.start(hosts);
      many[firewall.id] = await new Million(hosts, firewall).measure();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      notAvailable[`1,000,000 connections, ${firewall.id}`] = error instanceof NotAvailable ? text : `failed: ${text}`;
      progress(`  ${firewall.title}: ${text}`);
    } finally {
      await firewall.stop().catch((error: unknown) => progress(`  stopping ${firewall.title}: ${String(error)}`));
      hosts.destroy();
    }
  }
  return { many, notAvailable };
}

class Million {
  readonly #hosts: TwoHosts;
  readonly #firewall: UserspaceFirewall | MillraceFirewall;

  constructor(hosts: TwoHosts, firewall: UserspaceFirewall | MillraceFirewall) {
    this.#hosts = hosts;
    this.#firewall = firewall;
  }

  async measure(): Promise<ManyFigures> {
    const firewall = this.#firewall;
    this.#hosts.inside(this.#hosts.middle, 'ethtool', ['-K', 'sa', 'gro', 'on']);
    letLast(firewall);
    firewall.rule(false);
    await this.#fillZone();
    const zoneAloneSeconds = this.#flushZone();
    for (let port = FIRST_PORT; (await firewall.connections()) < MANY; port += 1) {
      await this.#send(port, Math.min(SOURCE_PORTS, MANY - (await firewall.connections()) + MORE));
      if (port === FIRST_PORT + 100)
        throw new Error(`${await firewall.connections()} of ${MANY} connections came about`);
    }
    const dumpSeconds = this.#list('ovs-appctl', ['-t', firewall.control, 'dpctl/dump-conntrack']);
    await this.#fillZone();
    const ours = firewall instanceof MillraceFirewall ? this.#ours(firewall) : {};
    if (firewall instanceof MillraceFirewall) await this.#fillZone();
    const zoneAmongAllSeconds = this.#flushZone();
    const connections = await firewall.connections();
    return { connections, dumpSeconds, zoneAloneSeconds, zoneAmongAllSeconds, ...ours };
  }

  /** A hundred thousand in the other zone. */
  async #fillZone(): Promise<void> {
    const before = await this.#firewall.connections();
    // What is lost on the way comes again, to another address.
    for (let turn = 0; turn < 50; turn += 1) {
      const left = IN_ZONE - ((await this.#firewall.connections()) - before);
      if (left <= 0) return;
      await this.#send(PORT_OF_OTHER_ZONE, Math.min(left + MORE, SOURCE_PORTS), turn);
    }
    throw new Error(`a zone of ${IN_ZONE} connections did not come about`);
  }

  /** @param host last byte of the address that packets are for */
  async #send(destinationPort: number, count: number, host = 2): Promise<void> {
    const { destinationMac } = this.#firewall.traffic;
    const to = { destinationMac, destinationAddress: `10.9.0.${200 + host}`, destinationPort };
    const sender = new FirstPackets(this.#hosts, 'udp', to);
    try {
      await sender.send(count, PPS[this.#firewall.datapathType]);
    } finally {
      sender.close();
    }
  }

  #flushZone(): number {
    const { control } = this.#firewall;
    return seconds(() =>
      run('ovs-appctl', ['-t', control, 'dpctl/flush-conntrack', `zone=${ZONES.other}`], { timeoutMs: TIME_OUT_MS }),
    );
  }

  /** List connections. @returns seconds @throws Error when they are not all */
  #list(command: string, args: readonly string[]): number {
    let lines = '';
    const script = '"$@" | wc -l';
    const took = seconds(() => {
      lines = run('sh', ['-c', script, 'sh', command, ...args], { timeoutMs: TIME_OUT_MS });
    });
    if (Number(lines) < MANY) throw new Error(`${command} ${args.join(' ')} listed ${lines.trim()} connections`);
    return took;
  }

  #ours({ daemon }: MillraceFirewall): Partial<ManyFigures> {
    const command = daemon.commandLine('connections');
    const listSeconds = this.#list(command[0], [...command.slice(1), 'list']);
    let said = '';
    const flushSeconds = seconds(() => {
      said = daemon.millrace('--json', 'connections', 'flush', '--zone', String(ZONES.other));
    });
    const { ended } = JSON.parse(said) as { ended: number };
    if (ended < IN_ZONE) throw new Error(`the flush of a zone of ${IN_ZONE} ended ${ended}`);
    return { listSeconds, flushSeconds, bytesPerConnection: bytesOfTable(daemon.pid) / ROOM };
  }
}

/** Have datagrams that nobody answers last for as long as this takes. */
function letLast(firewall: OpenFlowFirewall): void {
  const type = firewall.datapathType;
  const make = ['--', '--id=@it', 'create', 'Datapath', 'datapath_version=0'];
  firewall.vsctl(...make, '--', 'set', 'Open_vSwitch', '.', `datapaths:${type}=@it`);
  const times = ['udp_first', 'udp_single', 'udp_multiple'].map((name) => `${name}=${LAST_SECONDS}`);
  for (const zone of Object.values(ZONES)) firewall.vsctl('add-zone-tp', type, `zone=${zone}`, ...times);
  if (type === 'netdev') run('ovs-appctl', ['-t', firewall.control, 'dpctl/ct-set-maxconns', String(2 * MANY)]);
}

function seconds(work: () => void): number {
  const begun = performance.now();
  work();
  return (performance.now() - begun) / 1000;
}

/** What the kernel counts as memory of the arrays of the table: those that a process holds of the sizes that they have. */
function bytesOfTable(pid: number): number {
  const { index, records } = memorySizes(ROOM);
  const sizes = new Set([index * 4, records * 4].map(String));
  const seen = new Map<string, number>();
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
    const of = (name: string) => new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(info)?.[1] ?? '';
    if (sizes.has(of('value_size'))) seen.set(of('map_id'), Number(of('memlock')));
  }
  if (seen.size !== 2) throw new NotAvailable(`the table's arrays are not there: ${seen.size} of 2`);
  return [...seen.values()].reduce((sum, bytes) => sum + bytes, 0);
}
