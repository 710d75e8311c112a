/**
 * The program's side of the punt channel: how a tc program hands a packet up, whole. The ring at the other end is punt-channel.ts of host/,
 * and the daemon brings both together. Neighbour: program/ emits this where a packet misses.
 */
import { type Address, at, type ProgramBuilder, R0, R1, R2, type Register, SK_BUFF } from '../../bpf/index.ts';
import { RECORD_MARK } from '../../host/index.ts';

/** How a port is told to the receiver. */
export type PuntOrigin =
  /** By the device that the packet first came in by: nothing to do, but wrong for ports on top of others (VLAN, macvlan, bond). */
  | 'first-device'
  /** By the interface index of the port itself, in the place of the packet's time; right for all ports. */
  | 'marked'
  /** The same, for a packet with a record before its frame (record.ts). */
  | 'record';

/**
 * Emit the end of a path of a tc ingress program: the packet goes up, unchanged. Destroys R0 to R2.
 * @param context holds struct __sk_buff
 * @param interfaceIndex of the channel's device, in the namespace of the port: a constant, or a register other than R0 and R1
 * @param port where the index of the port's interface lies
 */
export function emitPunt(
  b: ProgramBuilder,
  context: Register,
  interfaceIndex: number | Register,
  origin: PuntOrigin = 'marked',
  port: Address = at(context, SK_BUFF.ifindex),
): void {
  if (origin !== 'first-device') {
    // Time of arrival: no seconds, and as many nanoseconds as the index, which no real time has.
    b.load(R0, 'u32', port);
    if (origin === 'record') b.or(R0, RECORD_MARK);
    b.store('u64', at(context, SK_BUFF.tstamp), R0);
  }
  b.mov(R1, interfaceIndex);
  b.mov(R2, 0);
  b.callHelper('redirect_peer');
  b.exit();
}
