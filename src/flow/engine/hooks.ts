/**
 * What the engine and the datapath ask of whoever uses them. Only output is mandatory. Every hook may keep a packet that it is
 * handed: it calls hold, and from then on the engine copies before it changes a byte. Without a hold the packet is the hook's
 * for the call alone. A hook may change the flow table; the list that is being run stays as it was.
 */
import type { KeyPort, Packet } from '../../net/index.ts';
import type { FlowKey } from '../key/key.ts';

/** The hooks of a datapath. */
export interface FlowHooks {
  /**
   * Send a packet. The tunnel that it is to be sent through, if any, is in the key's egress part. A hook that cannot send it
   * says so by `refuse` of the datapath, before it returns.
   * @param port as the action names it
   */
  output(packet: Packet, port: KeyPort, key: FlowKey): void;

  /**
   * Whether {@link output} does without layers 2 to 4 of the key: of packets whose flow does nothing but one output they are not
   * filled in then.
   */
  readonly outputIgnoresKey?: boolean;

  /**
   * What is known of the connection of a packet that comes in, as the key has it in its first connection word; 0 for nothing. Left out, nothing is known of any. Whoever asks for `glance`
   * does so only for packets of which nothing is known.
   */
  connectionOf?(packet: Packet): number;

  /** Whether a packet of a flow is through when it has been sent: nothing is to be told of it. Asked for what `glance` of the datapath tells; left out, it is. */
  isPlain?(slot: number): boolean;

  /**
   * No flow matches: tell whoever makes flows.
   * @returns false when the upcall was lost
   */
  miss?(packet: Packet, key: FlowKey): boolean;

  /**
   * No flow matches: whoever decides here and now does so, before {@link miss} is asked.
   * @returns the slot of the flow that the packet falls to now; or actions for this packet alone, valid and not changed until it is through; or -1
   */
  decide?(packet: Packet, key: FlowKey): number | Int32Array;

  /**
   * A packet is about to be looked up again, falls to a flow, and no copy of it was to be looked up beside it: whoever runs flows elsewhere may have it from here on, with its key. It counts there.
   * @param slot of the flow
   * @returns whether it was taken; its bytes are no longer needed then
   */
  handDown?(slot: number, packet: Packet, key: FlowKey): boolean;

  /**
   * Told, where there is {@link handDown}, of each look-up of a packet that was looked up again, once the packet is through.
   * @param slot of the flow that was found
   * @param lookUps that were done from there on, this one included; 0 when the last of them found nothing
   * @param isCopied whether the packet had to be copied from there on, as somebody held what actions were to change
   */
  wentOn?(slot: number, lookUps: number, isCopied: boolean): void;

  /**
   * A userspace action. Where nobody takes the packet, the hook says so by `refuse` of the datapath, before it returns.
   * @param words the action list, and `at` where the action's head lies in it (see Userspace in actions/userspace/)
   * @param list the bounds of the whole list, for actions that report it
   * @param lengthBytes how much of the packet to report: less than its length behind a trunc action
   */
  userspace?(
    packet: Packet,
    key: FlowKey,
    words: Int32Array,
    at: number,
    list: { readonly from: number; readonly end: number },
    lengthBytes: number,
  ): void;

  /** @returns whether the packet may pass; a meter that does not exist lets it */
  meter?(id: number, packet: Packet, key: FlowKey): boolean;

  /** A packet, or a copy of one, was dropped for a reason of Drop; it is counted already. */
  dropped?(packet: Packet, reason: number): void;

  /**
   * A packet that was received, or handed in to be executed, is through, recirculated ones included. Called once for each, in their order;
   * packets that hooks feed back belong to the one that the hook was called for.
   * @param reason 0 when it, or a copy, was sent, taken up or kept; else the last reason of Drop under which it was dropped
   */
  ended?(reason: number): void;
}
