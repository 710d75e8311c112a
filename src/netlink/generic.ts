/**
 * Generic netlink: the header that all its families share, and the controller through which families are found by name.
 *
 *      nlmsghdr | command (u8) | version (u8) | reserved (u16) | the family's own header, if any | attributes
 */
import { MESSAGE_HEADER_BYTES } from './constants.ts';
import { array, nested, string, u16, u32 } from './fields.ts';
import { checkFamilyHeader, type Message } from './message.ts';
import { policy, type ValuesOf } from './policy.ts';
import type { Request } from './transaction.ts';
import { checkUnsigned, type MessageWriter } from './writer.ts';

/** Length of struct genlmsghdr. */
export const GENERIC_HEADER_BYTES = 4;

/** The controller's family id (GENL_ID_CTRL), the only one that is fixed. */
export const CONTROLLER_FAMILY = 0x10;

/** Commands of the controller (CTRL_CMD_*). */
export const ControllerCommand = {
  NEW_FAMILY: 1,
  DEL_FAMILY: 2,
  GET_FAMILY: 3,
  NEW_MULTICAST_GROUP: 7,
  DEL_MULTICAST_GROUP: 8,
} as const;

/** GENL_NAMSIZ, less the terminating zero. */
const NAME_BYTES = 15;

/** struct genlmsghdr. */
export interface GenericHeader {
  readonly command: number;
  readonly version: number;
  /** Index behind the header: the family's own header, or its attributes. */
  readonly payloadStart: number;
}

/** @throws NetlinkError when the message is too short */
export function parseGenericHeader(message: Message): GenericHeader {
  const payloadStart = checkFamilyHeader(message, GENERIC_HEADER_BYTES, 'genlmsghdr');
  return {
    command: message.bytes[MESSAGE_HEADER_BYTES],
    version: message.bytes[MESSAGE_HEADER_BYTES + 1],
    payloadStart,
  };
}

/** Write a genlmsghdr behind `begin`. */
export function writeGenericHeader(writer: MessageWriter, command: number, version: number): void {
  const header = new Uint8Array(GENERIC_HEADER_BYTES);
  header[0] = checkUnsigned('command', command, 0xff);
  header[1] = checkUnsigned('version', version, 0xff);
  writer.raw(header);
}

/** The controller is older than NLA_F_NESTED and never sets it. */
const OLD = { flagged: false } as const;

const operationPolicy = policy({ command: [1, u32()], flags: [2, u32()] });
const groupPolicy = policy({ id: [2, u32()], name: [1, string({ maxBytes: NAME_BYTES })] });

/** Attributes of the controller (CTRL_ATTR_*), in the order in which the kernel sends them. */
const controllerPolicy = policy({
  name: [2, string({ maxBytes: NAME_BYTES })],
  id: [1, u16()],
  version: [3, u32()],
  /** Length of the family's own header. */
  headerBytes: [4, u32()],
  maxAttribute: [5, u32()],
  operations: [6, array(nested(operationPolicy, OLD), OLD)],
  multicastGroups: [7, array(nested(groupPolicy, OLD), OLD)],
});

/** A family as the controller describes it. All but the id may be missing. */
export type FamilyRecord = ValuesOf<typeof controllerPolicy>;

/** Ask for a family by its name, such as 'ovs_datapath'. */
export function getFamily(name: string): Request {
  return {
    type: CONTROLLER_FAMILY,
    flags: 0,
    doing: `find generic netlink family ${name}`,
    write(writer) {
      writeGenericHeader(writer, ControllerCommand.GET_FAMILY, 1);
      controllerPolicy.encode(writer, { name });
    },
  };
}

/**
 * Read a message of the controller: a reply with a family, a request for one, a notice of one.
 * @param options.strict as Policy.decode: for whoever serves as the controller
 * @throws NetlinkError when it is malformed
 */
export function parseFamily(
  message: Message,
  options: { strict?: boolean } = {},
): { command: number; version: number; family: FamilyRecord } {
  const { command, version, payloadStart } = parseGenericHeader(message);
  return { command, version, family: controllerPolicy.decode(message.bytes, payloadStart, options) };
}

/** Write the body of a controller message, behind `begin`. */
export function writeFamily(writer: MessageWriter, command: number, family: FamilyRecord): void {
  writeGenericHeader(writer, command, 2);
  controllerPolicy.encode(writer, family);
}
