/** The configuration of the extension `ovs`. */
import { z } from 'zod';
import { checkedBy } from '../../switch/index.ts';

/** Where programs under the shim look when nothing else is said (see native/README.md). */
export const DEFAULT_OVS_SOCKET = '/run/millrace/ovs-netlink.sock';

const schema = z
  .strictObject({
    /** Path of the socket that programs under the shim connect to. */
    socket: z.string().min(1).max(107).default(DEFAULT_OVS_SOCKET),
  })
  .nullish()
  .transform((value) => value ?? { socket: DEFAULT_OVS_SOCKET });

export type OvsConfiguration = z.output<typeof schema>;

/** @throws TypeError with one finding a line */
export function parseOvsConfiguration(value: unknown): OvsConfiguration {
  return checkedBy(schema, value ?? {});
}
