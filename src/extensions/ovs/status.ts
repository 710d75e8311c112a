/** The state of the datapaths as plain data, for people and programs. */
import type { JsonValue } from '../../switch/index.ts';
import { VportType } from './abi.ts';
import type { OvsServer } from './netlink-server.ts';
import type { OvsDatapath } from './ovs-datapath.ts';
import type { OvsPort } from './port-number.ts';
import type { Vport } from './vport.ts';

const TYPE_NAMES = new Map<number, string>(Object.entries(VportType).map(([name, type]) => [type, name.toLowerCase()]));

/** A port as `show` gives it. */
export type ShownPort = {
  readonly number: OvsPort;
  readonly name: string;
  readonly type: string;
  readonly udpPort?: number;
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  readonly transmittedPackets: number;
  readonly transmittedBytes: number;
  readonly unsent: number;
  readonly upcalls: { readonly sent: number; readonly lost: number };
};

/** A datapath as `show` gives it. */
export type ShownDatapath = {
  readonly name: string;
  readonly lookups: { readonly hits: number; readonly misses: number; readonly lost: number };
  readonly flows: number;
  readonly masks: { readonly tried: number; readonly count: number; readonly cacheHits: number };
  readonly ports: readonly ShownPort[];
};

/** What the extension says of itself: what `millrace extension show ovs` prints. */
export type OvsStatus = {
  readonly socket: string;
  readonly connections: number;
  readonly losses: Readonly<Record<string, number>>;
  /** `decided`: how flows are carried of packets that policies or filters look at, too; null while nobody else looks. */
  readonly datapaths: readonly (ShownDatapath & { readonly decided: JsonValue })[];
};

function describePort(port: Vport): ShownPort {
  const { receivedPackets, receivedBytes, transmittedPackets, transmittedBytes } = port.counters;
  return {
    number: port.number,
    name: port.name,
    type: TYPE_NAMES.get(port.type) ?? `type ${port.type}`,
    ...(port.destinationPort === 0 ? {} : { udpPort: port.destinationPort }),
    receivedPackets,
    receivedBytes,
    transmittedPackets,
    transmittedBytes,
    unsent: port.unsent,
    upcalls: { sent: port.upcallsSent, lost: port.upcallsLost },
  };
}

export function describeDatapath(datapath: OvsDatapath): ShownDatapath {
  datapath.flows.table.refreshCounts();
  const { hits, misses, lost, flows, masks, masksTried, cacheHits } = datapath.flows.statistics();
  return {
    name: datapath.name,
    lookups: { hits, misses, lost },
    flows,
    masks: { tried: masksTried, count: masks, cacheHits },
    ports: [...datapath.ports.values()].sort((a, b) => a.number - b.number).map(describePort),
  };
}

/** @param carried how flows of a datapath are carried */
export function describeServer(
  server: OvsServer,
  socket: string,
  carried: (datapath: OvsDatapath) => JsonValue,
): OvsStatus {
  return {
    socket,
    connections: server.device.size,
    losses: { ...server.device.losses },
    datapaths: [...server.datapaths.values()].map((datapath) => ({
      ...describeDatapath(datapath),
      decided: carried(datapath),
    })),
  };
}
