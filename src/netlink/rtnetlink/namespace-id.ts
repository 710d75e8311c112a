/** Ids that a network namespace gives to others (struct rtgenmsg and NETNSA_*): by them the kernel names those that it tells of. */
import { NlmFlag } from '../constants.ts';
import type { Request } from '../transaction.ts';
import { AddressFamily, Rtm } from './constants.ts';

/** NETNSA_* */
const Attribute = { ID: 1, DESCRIPTOR: 3 } as const;
/** Let the kernel choose. */
const ANY_ID = -1;

/**
 * Give another namespace an id, by which a listener that asks for it (NETLINK_LISTEN_ALL_NSID) hears of what happens there. It fails with EEXIST when
 * the namespace has one. An id keeps no namespace alive.
 * @param namespaceDescriptor an open reference to the other namespace
 */
export function newNamespaceId(namespaceDescriptor: number): Request {
  return {
    type: Rtm.NEWNSID,
    flags: NlmFlag.CREATE | NlmFlag.EXCL,
    doing: 'give a network namespace an id',
    write(writer) {
      writer.raw(new Uint8Array([AddressFamily.UNSPEC, 0, 0, 0]));
      writer.s32(Attribute.ID, ANY_ID);
      writer.u32(Attribute.DESCRIPTOR, namespaceDescriptor);
    },
  };
}
