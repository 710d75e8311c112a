/** The state of the datapaths as plain data, for people and programs. */
import type { JsonValue } from '../../switch/index.ts';
import { VportType } from './abi.ts';
import type { OvsServer } from './netlink-server.ts';
import type { OvsDatapath } from './ovs-datapath.ts';
import type { Vport } from './vport.ts';

const TYPE_NAMES = new Map<number, string>(Object.entries(VportType).map(([name, type]) => [type, name.toLowerCase()]));

/** A port as `show` gives it. */
export function describePort(port: Vport) {
  const counted = port.device?.counters;
  return {
    number: port.number,
    name: port.name,
    type: TYPE_NAMES.get(port.type) ?? `type ${port.type}`,
    ...(port.destinationPort === 0 ? {} : { udpPort: port.destinationPort }),
    receivedPackets: counted?.receivedPackets ?? 0,
    receivedBytes: counted?.receivedBytes ?? 0,
    transmittedPackets: counted?.transmittedPackets ?? 0,
    transmittedBytes: counted?.transmittedBytes ?? 0,
    unsent: port.unsent,
    upcalls: { sent: port.upcallsSent, lost: port.upcallsLost },
  };
}

/** A datapath as `show` gives it. */
export function describeDatapath(datapath: OvsDatapath) {
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

/** Everything: what `millrace extension show ovs` prints. */
export function describeServer(server: OvsServer, socket: string): JsonValue {
  return {
    socket,
    connections: server.device.size,
    losses: { ...server.device.losses },
    datapaths: [...server.datapaths.values()].map(describeDatapath),
  };
}
