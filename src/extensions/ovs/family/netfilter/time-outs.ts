/** The subsystem of time-out policies, as nfnetlink_cttimeout has it: each policy is for one protocol, and has a name by which ct actions mean it. */
import {
  type Connections,
  POLICY_NAME_BYTES,
  type TimedProtocol,
  type TimeOutPolicies,
  timeOutNames,
} from '../../../../connections/index.ts';
import { IpProtocol } from '../../../../net/index.ts';
import { type MessageWriter, NlmFlag } from '../../../../netlink/index.ts';
import { type Attributes, be16At, be32At } from '../../attributes.ts';
import { Step } from '../../device/dump.ts';
import { Errno, OvsError } from '../../errors.ts';
import { trackerOf } from '../known-connections.ts';
import { beginNetfilter, type NetfilterRequest } from './message.ts';
import { CtaTimeOut, Subsystem, TimeOutCommand } from './numbers.ts';
import { type Policy, readNest, U8, U16, U32 } from './policy.ts';

/** cttimeout_nla_policy. */
export const TIME_OUT_POLICY: Policy = {
  [CtaTimeOut.NAME]: { nameBytes: POLICY_NAME_BYTES },
  [CtaTimeOut.FAMILY]: U16,
  [CtaTimeOut.PROTOCOL]: U8,
  [CtaTimeOut.DATA]: 'nest',
};

/** The protocol number of everything that has no time-outs of its own. */
const GENERIC = 255;

/** The time-outs of a protocol: its name in connections/, and of each attribute from 1 on the state whose time-out it is. */
interface Timed {
  readonly name: TimedProtocol;
  readonly states: readonly string[];
}

const NAMES: readonly (readonly [protocol: number, name: TimedProtocol])[] = [
  [IpProtocol.TCP, 'tcp'],
  [IpProtocol.UDP, 'udp'],
  [IpProtocol.ICMPV4, 'icmp'],
  [IpProtocol.ICMPV6, 'icmpv6'],
  [IpProtocol.GRE, 'gre'],
  [IpProtocol.SCTP, 'sctp'],
  [GENERIC, 'generic'],
];

const TIMED = new Map<number, Timed>(NAMES.map(([protocol, name]) => [protocol, { name, states: timeOutNames(name) }]));

/** What a policy is for, in the word that connections/ keeps for it: family 16, protocol 8. */
function scopeOf(family: number, protocol: number): number {
  return (family << 8) | protocol;
}

/** @returns whether the answer is a dump @throws OvsError */
export function handleTimeOuts(request: NetfilterRequest, connections: Connections): boolean {
  const { command, attributes } = request;
  const { timeOuts } = trackerOf(connections, false).table;
  switch (command) {
    case TimeOutCommand.NEW:
      define(request, connections);
      return false;
    case TimeOutCommand.GET:
      if (request.isDump) return dump(request, timeOuts);
      show(request, timeOuts);
      return false;
    case TimeOutCommand.DELETE:
      remove(request, timeOuts);
      return false;
    case TimeOutCommand.DEFAULT_SET: {
      attributes.required(CtaTimeOut.DATA);
      const values = valuesIn(attributes, timedOf(attributes.required(CtaTimeOut.PROTOCOL)[0]));
      trackerOf(connections, true).table.timeOuts.setDefaults(values);
      return false;
    }
    case TimeOutCommand.DEFAULT_GET:
      showDefaults(request, timeOuts);
      return false;
    default:
      throw new OvsError(Errno.EINVAL, `there is no command ${command} of time-outs`);
  }
}

/** Family and protocol that a request names. @throws OvsError EINVAL when one is missing */
function scopeIn(attributes: Attributes): { family: number; protocol: number } {
  const family = be16At(attributes.required(CtaTimeOut.FAMILY), 0);
  return { family, protocol: attributes.required(CtaTimeOut.PROTOCOL)[0] };
}

/** @throws OvsError EOPNOTSUPP */
function timedOf(protocol: number): Timed {
  const timed = TIMED.get(protocol);
  if (timed === undefined) throw new OvsError(Errno.EOPNOTSUPP, `protocol ${protocol} has no time-outs of its own`);
  return timed;
}

/** The values of a request, in milliseconds. @throws OvsError ERANGE */
function valuesIn(attributes: Attributes, { name, states }: Timed): Record<string, Record<string, number>> {
  const data = attributes.required(CtaTimeOut.DATA);
  const policy = Object.fromEntries(states.map((_, i): [number, typeof U32] => [i + 1, U32]));
  const given = readNest(data, states.length, policy);
  const values: Record<string, number> = {};
  states.forEach((state, i) => {
    const content = given.content(i + 1);
    if (content !== null) values[state] = be32At(content, 0) * 1000;
  });
  return { [name]: values };
}

/** @throws OvsError EINVAL */
function nameIn(attributes: Attributes): string {
  const name = attributes.name(CtaTimeOut.NAME, POLICY_NAME_BYTES);
  // What is no UTF-8 could not be told apart.
  if (name === null || name.includes('\ufffd')) throw new OvsError(Errno.EINVAL, 'no name of a policy');
  return name;
}

/** What is refused is so before a table is made. */
function define({ attributes, message }: NetfilterRequest, connections: Connections): void {
  const name = nameIn(attributes);
  if (name === '') throw new OvsError(Errno.EINVAL, 'a policy needs a name');
  const { family, protocol } = scopeIn(attributes);
  attributes.required(CtaTimeOut.DATA);
  const known = connections.table?.timeOuts;
  const there = known?.numberOf(name);
  if (there !== undefined && (message.flags & NlmFlag.EXCL) !== 0) {
    throw new OvsError(Errno.EEXIST, `there is a policy ${name}`);
  }
  const scope = scopeOf(family, protocol);
  if (there !== undefined) {
    if ((message.flags & NlmFlag.REPLACE) === 0) throw new OvsError(Errno.EBUSY, `there is a policy ${name}`);
    if (known?.scopeOf(there) !== scope) throw new OvsError(Errno.EINVAL, `${name} is for another protocol`);
  }
  const values = valuesIn(attributes, timedOf(protocol));
  const { timeOuts } = trackerOf(connections, true).table;
  if (there === undefined && timeOuts.isFull) throw new OvsError(Errno.ENOMEM, 'there are too many policies');
  timeOuts.define(name, values, scope);
}

/** The number of the policy that a request names. @throws OvsError EINVAL, ENOENT */
function numberIn(request: NetfilterRequest, timeOuts: TimeOutPolicies): { name: string; number: number } {
  const name = nameIn(request.attributes);
  const number = timeOuts.numberOf(name);
  if (number === undefined) throw new OvsError(Errno.ENOENT, `there is no policy ${name}`);
  return { name, number };
}

function remove(request: NetfilterRequest, timeOuts: TimeOutPolicies): void {
  if (!request.attributes.has(CtaTimeOut.NAME)) {
    for (const name of timeOuts.names()) timeOuts.remove(name);
    return;
  }
  const name = nameIn(request.attributes);
  // As in the kernel, connections that have it do not hold it.
  if (!timeOuts.remove(name)) throw new OvsError(Errno.ENOENT, `there is no policy ${name}`);
}

function show(request: NetfilterRequest, timeOuts: TimeOutPolicies): void {
  const { name, number } = numberIn(request, timeOuts);
  request.reply.message((writer) => writePolicy(writer, request, timeOuts, name, number));
}

function dump(request: NetfilterRequest, timeOuts: TimeOutPolicies): boolean {
  const names = timeOuts.names().values();
  request.reply.dumpFrom({
    next(writer) {
      for (const name of names) {
        // It may have gone since the dump began.
        const number = timeOuts.numberOf(name);
        if (number === undefined) continue;
        writePolicy(writer, request, timeOuts, name, number);
        return Step.OBJECT;
      }
      return Step.END;
    },
  });
  return true;
}

function writePolicy(
  writer: MessageWriter,
  request: NetfilterRequest,
  timeOuts: TimeOutPolicies,
  name: string,
  number: number,
): void {
  const scope = timeOuts.scopeOf(number);
  begin(writer, request, TimeOutCommand.NEW);
  writer.string(CtaTimeOut.NAME, name);
  writer.be16(CtaTimeOut.FAMILY, scope >>> 8);
  writer.u8(CtaTimeOut.PROTOCOL, scope & 0xff);
  // The kernel counts its own table as one who uses it.
  writer.be32(CtaTimeOut.USE, timeOuts.users(number) + 1);
  writeData(writer, scope & 0xff, timeOuts.valuesOf(number));
  writer.end();
}

function showDefaults(request: NetfilterRequest, timeOuts: TimeOutPolicies): void {
  const { family, protocol } = scopeIn(request.attributes);
  timedOf(protocol);
  request.reply.message((writer) => {
    begin(writer, request, TimeOutCommand.DEFAULT_SET);
    writer.be16(CtaTimeOut.FAMILY, family);
    writer.u8(CtaTimeOut.PROTOCOL, protocol);
    writeData(writer, protocol, timeOuts.valuesOf(0));
    writer.end();
  });
}

/** Time-outs in whole seconds; none for a policy that was not defined by netlink. */
function writeData(writer: MessageWriter, protocol: number, values: Record<string, Record<string, number>>): void {
  const timed = TIMED.get(protocol);
  const nest = writer.beginNested(CtaTimeOut.DATA);
  timed?.states.forEach((state, i) => {
    writer.be32(i + 1, Math.floor(values[timed.name][state] / 1000));
  });
  writer.endNested(nest);
}

function begin(writer: MessageWriter, { message, reply }: NetfilterRequest, command: number): void {
  const type = (Subsystem.TIME_OUTS << 8) | command;
  beginNetfilter(writer, type, NlmFlag.MULTI, message.sequence, reply.connection.port);
}
