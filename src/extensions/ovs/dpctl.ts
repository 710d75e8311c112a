/**
 * What ovs-dpctl does, for machines without it: datapaths, ports and flows as commands of the extension, in Open vSwitch's own
 * syntax. Arguments and answers are plain JSON; a dump comes in parts, each with where the next one begins.
 */
import { z } from 'zod';
import {
  FlowError,
  FlowTextError,
  formatActions,
  formatFlowKey,
  formatUfid,
  KEY_WORDS,
  PutMode,
  parseActions,
  parseFlowKey,
  parseUfid,
  validateActions,
} from '../../flow/index.ts';
import { command, type JsonValue, runCommand } from '../../switch/index.ts';
import { NAME_MAXIMUM_BYTES, VportType } from './abi.ts';
import { OvsError } from './errors.ts';
import type { OvsServer } from './netlink-server.ts';
import type { OvsDatapath } from './ovs-datapath.ts';
import { describeDatapath, type ShownDatapath } from './status.ts';

/** Most flows of one part. */
const PART_MAXIMUM = 2_000;

const name = z.string().min(1).max(NAME_MAXIMUM_BYTES);
const where = z.strictObject({ datapath: name.optional() });
const text = z.string().min(1).max(65_536);
const flowText = where.extend({ flow: text });
const putText = flowText.extend({ actions: z.string().max(65_536) });
const portName = where.extend({ port: name });
const part = where.extend({
  from: z.int().min(0).optional(),
  filter: z.string().max(256).optional(),
});

/** All commands; see the README. */
export const OVS_COMMANDS = {
  'dump-dps': command(where, (server: OvsServer) => [...server.datapaths.values()].map((datapath) => datapath.name)),
  show: command(where, (server: OvsServer, { datapath }): ShownDatapath[] => {
    if (datapath !== undefined) return [describeDatapath(named(server, datapath))];
    return [...server.datapaths.values()].map(describeDatapath);
  }),
  'dump-flows': command(part, (server: OvsServer, { datapath, from, filter }) =>
    dumpFlows(named(server, datapath), from ?? 0, filter ?? ''),
  ),
  'get-flow': command(flowText, (server: OvsServer, { datapath, flow }) => {
    const found = named(server, datapath);
    return describeFlow(found, findFlow(found, flow));
  }),
  'add-flow': command(putText, (server: OvsServer, given) => put(server, given, PutMode.CREATE)),
  'mod-flow': command(putText, (server: OvsServer, given) => put(server, given, PutMode.MODIFY)),
  'del-flow': command(flowText, (server: OvsServer, { datapath, flow }) => {
    const found = named(server, datapath);
    found.flows.table.remove(findFlow(found, flow));
    return null;
  }),
  'del-flows': command(where, (server: OvsServer, { datapath }) => {
    const { table } = named(server, datapath).flows;
    const deleted = table.size;
    table.flush();
    return { deleted };
  }),
  'add-dp': command(where.required(), (server: OvsServer, { datapath }) => {
    server.addDatapath(datapath);
    return null;
  }),
  'del-dp': command(where.required(), (server: OvsServer, { datapath }) => {
    server.removeDatapath(named(server, datapath));
    return null;
  }),
  'add-if': command(
    portName.extend({ type: z.enum(['netdev', 'internal']).optional() }),
    (server: OvsServer, { datapath, port, type }) => {
      const to = named(server, datapath);
      const added = to.addPort(to.freeNumber(), {
        type: type === 'internal' ? VportType.INTERNAL : VportType.NETDEV,
        name: port,
        upcallPids: [0],
        destinationPort: 0,
      });
      return { number: added.number };
    },
  ),
  'del-if': command(portName, (server: OvsServer, { datapath, port }) => {
    const from = named(server, datapath);
    const found = from.portNamed(port);
    if (found === undefined) throw new TypeError(`${from.name} has no port ${port}`);
    if (found.number === 0) throw new TypeError(`${port} goes with its datapath: del-dp ${from.name}`);
    from.removePort(found);
    return null;
  }),
};

/**
 * Carry out a command.
 * @throws Error for a command or an argument that makes no sense, with a sentence for people
 */
export function runOvsCommand(server: OvsServer, name: string, args: JsonValue): JsonValue {
  try {
    return runCommand(OVS_COMMANDS, server, name, args);
  } catch (error) {
    if (error instanceof FlowTextError || error instanceof OvsError) throw new TypeError(error.message);
    throw error;
  }
}

/** A datapath by name; without a name, the only one. */
function named(server: OvsServer, wanted: string | undefined): OvsDatapath {
  const datapaths = [...server.datapaths.values()];
  if (wanted === undefined) {
    if (datapaths.length === 1) return datapaths[0];
    if (datapaths.length === 0) throw new TypeError('there is no datapath');
    throw new TypeError(`name one of the datapaths: ${datapaths.map((one) => one.name).join(', ')}`);
  }
  // As ovs-dpctl writes them: the type before an @.
  const plain = wanted.replace(/^system@/, '');
  const found = datapaths.find((one) => one.name === plain);
  if (found !== undefined) return found;
  const there = datapaths.map((one) => one.name).join(', ');
  throw new TypeError(`there is no datapath ${plain}${there === '' ? '' : `; there are: ${there}`}`);
}

function findFlow(datapath: OvsDatapath, flow: string): number {
  const { table } = datapath.flows;
  const slot = flow.startsWith('ufid:') ? table.findUfid(parseUfid(flow)) : table.findExact(parseFlowKey(flow).key);
  if (slot < 0) throw new TypeError('there is no such flow');
  return slot;
}

/** The identifier that may stand before a flow. */
function splitUfid(flow: string): { ufid: Uint8Array | null; match: string } {
  const found = /^ufid:([0-9a-fA-F-]+),\s*/.exec(flow);
  return found === null
    ? { ufid: null, match: flow }
    : { ufid: parseUfid(found[1]), match: flow.slice(found[0].length) };
}

const PUT_ERRORS: Readonly<Record<number, string>> = {
  [FlowError.NOT_FOUND]: 'there is no such flow',
  [FlowError.EXISTS]: 'the flow is there already, or another one matches the same packets',
  [FlowError.FULL]: 'the flow table is full',
  [FlowError.INVALID]: 'the flow is not valid',
};

function put(server: OvsServer, given: z.output<typeof putText>, mode: 1 | 2): null {
  const { datapath, flow, actions: actionText } = given;
  const { table } = named(server, datapath).flows;
  const { ufid, match } = splitUfid(flow);
  const { key, mask } = parseFlowKey(match);
  const actions = parseActions(actionText);
  const masked = key.map((word, i) => word & mask[i]);
  const flaw = validateActions(actions, masked);
  if (flaw !== null) throw new TypeError(`the actions are not valid: ${flaw.message}`);
  const slot = table.put({ key, mask, actions, ufid, mode });
  if (slot < 0) throw new TypeError(PUT_ERRORS[slot] ?? `the flow was not put (${slot})`);
  return null;
}

const key = new Uint32Array(KEY_WORDS);

/** A flow as `get-flow` and `dump-flows` give it. */
export type ShownFlow = {
  readonly ufid: string | null;
  readonly match: string;
  readonly packets: number;
  readonly bytes: number;
  /** Null when it was never used. */
  readonly usedSeconds: number | null;
  readonly tcpFlags: number;
  readonly actions: string;
};

function describeFlow(datapath: OvsDatapath, slot: number): ShownFlow {
  const { table } = datapath.flows;
  table.refreshCounts(slot);
  table.readKey(slot, key);
  const ufid = table.ufidOf(slot);
  const usedMs = table.usedMsOf(slot);
  return {
    ufid: ufid === null ? null : formatUfid(ufid),
    match: formatFlowKey(key, table.maskOf(slot).words),
    packets: table.packetsOf(slot),
    bytes: table.bytesOf(slot),
    usedSeconds: table.packetsOf(slot) === 0 ? null : Math.max(0, (datapath.nowMs - usedMs) / 1000),
    tcpFlags: table.tcpFlagsOf(slot),
    actions: formatActions(table.actionsOf(slot)),
  };
}

/** @param filter only flows whose text, as match and actions, holds this */
function dumpFlows(datapath: OvsDatapath, from: number, filter: string): { flows: ShownFlow[]; next: number | null } {
  const { table } = datapath.flows;
  const flows: ShownFlow[] = [];
  let looked = 0;
  let slot = table.next(from);
  while (slot !== -1 && looked < PART_MAXIMUM) {
    const flow = describeFlow(datapath, slot);
    if (filter === '' || flow.match.includes(filter) || flow.actions.includes(filter)) flows.push(flow);
    looked += 1;
    slot = table.next(slot + 1);
  }
  return { flows, next: slot === -1 ? null : slot };
}
