/**
 * The numbers by which ports are called. When the program runs all of them are plain numbers; to the compiler each kind is a type of its own, so that none is
 * taken for another. Each may be used as a number, but a number becomes one only here, where it is checked, or where its owner says what it is.
 *
 *      PortId           the switch's number of a port: given when the port is made, and never changed. The switch's API, contexts, policies, events
 *      KeyPort          a port's number in the keys and outputs of one flow table; what it means is known to the owner of the table alone:
 *        PortNumber       of decisions: a PortId with the index of a NIC (decide/port-number.ts)
 *        OvsPort          of Open vSwitch: what ovs-vswitchd calls the port (extensions/ovs/port-number.ts)
 *      InterfaceIndex   Linux's number of a network interface, in its namespace
 */

declare const KIND: unique symbol;
declare const OWNER: unique symbol;

/** The switch's number of a port: 1 to 65,535; 0 is the default port, which is nobody's. */
export type PortId = number & { readonly [KIND]: 'PortId' };

/** A port's number in the keys and outputs of a flow table: 32 bits. */
export type KeyPort = number & { readonly [KIND]: 'KeyPort' };

/** The same in tables of one owner, who knows what it means. */
export type KeyPortOf<Owner extends string> = KeyPort & { readonly [OWNER]: Owner };

/** Linux's number of a network interface: 1 to 2^31 - 1. */
export type InterfaceIndex = number & { readonly [KIND]: 'InterfaceIndex' };

const PORT_ID_MAXIMUM = 0xffff;
const INTERFACE_INDEX_MAXIMUM = 0x7fff_ffff;

/** A number as the switch's number of a port. @throws RangeError for one that no port can have */
export function toPortId(value: number): PortId {
  if (Number.isInteger(value) && value >= 0 && value <= PORT_ID_MAXIMUM) return value as PortId;
  throw new RangeError(`${value} is no number of a port: 0 to ${PORT_ID_MAXIMUM}`);
}

/** A word of a key, or of an output, as the port that it names: all 32 bits are one. */
export function toKeyPort(word: number): KeyPort {
  return (word >>> 0) as KeyPort;
}

/** A number as the index of an interface. @throws RangeError for one that no interface can have */
export function toInterfaceIndex(value: number): InterfaceIndex {
  if (isInterfaceIndex(value)) return value;
  throw new RangeError(`${value} is no index of an interface: 1 to ${INTERFACE_INDEX_MAXIMUM}`);
}

/** Whether an interface can have this index. */
export function isInterfaceIndex(value: number): value is InterfaceIndex {
  return Number.isInteger(value) && value >= 1 && value <= INTERFACE_INDEX_MAXIMUM;
}
