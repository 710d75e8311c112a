/**
 * Netfilter's netlink, as far as it is about connections: programs under the shim see those of this datapath, never the kernel's. Answers and errno are those of
 * nf_conntrack_netlink and nfnetlink_cttimeout. The connections that others announce are expected in memory alone, and are not told.
 */
import type { Connections } from '../../../../connections/index.ts';
import type { Message } from '../../../../netlink/index.ts';
import { NlmFlag } from '../../../../netlink/index.ts';
import type { Reply } from '../../device/reply.ts';
import { Errno, OvsError } from '../../errors.ts';
import { CONNECTION_POLICY, handleConnections } from './connections.ts';
import { HEADERS_BYTES, type NetfilterRequest, type WorkOn } from './message.ts';
import {
  ConnectionCommand,
  CTA_MAXIMUM,
  CTA_TIME_OUT_MAXIMUM,
  ExpectationCommand,
  Subsystem,
  TimeOutCommand,
} from './numbers.ts';
import { type Policy, readAttributes } from './policy.ts';
import { handleTimeOuts, TIME_OUT_POLICY } from './time-outs.ts';

/** CTA_EXPECT_MASTER and CTA_EXPECT_TUPLE: which expectation. */
const EXPECTATION_POLICY: Policy = { 1: 'nest', 2: 'nest' };
const EXPECTATION_NAMES = [1, 2] as const;
const EXPECTATION_MAXIMUM = 11;

interface SubsystemEntry {
  readonly maximum: number;
  readonly policy: Policy;
  /** Commands from this one on take no attributes: the kernel does not look at what is there. */
  readonly bare: number;
  readonly handle: (request: NetfilterRequest, connections: Connections) => boolean;
}

const SUBSYSTEMS = new Map<number, SubsystemEntry>([
  [
    Subsystem.CONNECTIONS,
    {
      maximum: CTA_MAXIMUM,
      policy: CONNECTION_POLICY,
      bare: ConnectionCommand.CPU_STATISTICS,
      handle: handleConnections,
    },
  ],
  [
    Subsystem.EXPECTATIONS,
    {
      maximum: EXPECTATION_MAXIMUM,
      policy: EXPECTATION_POLICY,
      bare: ExpectationCommand.CPU_STATISTICS,
      handle: handleExpectations,
    },
  ],
  [
    Subsystem.TIME_OUTS,
    {
      maximum: CTA_TIME_OUT_MAXIMUM,
      policy: TIME_OUT_POLICY,
      bare: TimeOutCommand.DEFAULT_GET + 1,
      handle: handleTimeOuts,
    },
  ],
]);

export type { WorkOn } from './message.ts';

/** Whether a message type is one of netfilter's about connections. */
export function isConnectionMessage(type: number): boolean {
  return SUBSYSTEMS.has(type >>> 8);
}

/**
 * @returns whether the answer is a dump, or work that is acknowledged when it is over
 * @throws OvsError
 */
export function handleNetfilter(message: Message, reply: Reply, connections: Connections, workOn: WorkOn): boolean {
  const { bytes, type, flags } = message;
  // The kernel takes these for nothing, and nothing for a success.
  if (bytes.length < HEADERS_BYTES) return false;
  const subsystem = SUBSYSTEMS.get(type >>> 8);
  if (subsystem === undefined) throw new OvsError(Errno.EINVAL, `no subsystem ${type >>> 8}`);
  const command = type & 0xff;
  const end = command < subsystem.bare ? bytes.length : HEADERS_BYTES;
  return subsystem.handle(
    {
      message,
      reply,
      command,
      family: bytes[16],
      version: bytes[17],
      isDump: (flags & NlmFlag.DUMP) !== 0,
      attributes: readAttributes(bytes.subarray(0, end), HEADERS_BYTES, subsystem.maximum, subsystem.policy),
      workOn,
    },
    connections,
  );
}

function handleExpectations({ command, isDump, attributes, reply }: NetfilterRequest): boolean {
  const namesOne = EXPECTATION_NAMES.some((each) => attributes.has(each));
  switch (command) {
    case ExpectationCommand.GET:
    case ExpectationCommand.CPU_STATISTICS:
      if (isDump) {
        reply.dumpNothing();
        return true;
      }
      if (command === ExpectationCommand.CPU_STATISTICS) return false;
      throw new OvsError(namesOne ? Errno.ENOENT : Errno.EINVAL, 'there is no such expectation');
    case ExpectationCommand.DELETE:
      if (namesOne) throw new OvsError(Errno.ENOENT, 'there is no such expectation');
      return false;
    case ExpectationCommand.NEW:
      throw new OvsError(Errno.EOPNOTSUPP, 'expectations come of helpers alone');
    default:
      throw new OvsError(Errno.EINVAL, `there is no command ${command} of expectations`);
  }
}
