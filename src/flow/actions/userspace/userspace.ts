/** USERSPACE: the packet goes up to a program, with what tells it why. */
import { Drop } from '../../engine/drops.ts';
import { hexBytes, hexDigits } from '../../text/values.ts';
import type { ActionDescription } from '../description.ts';
import { Action, packBytes, packedWords, unpackBytes } from '../encoding.ts';
import { TOO_SHORT } from '../netlink.ts';
import { WHOLE } from '../output/output.ts';

/** Bits of its flags. */
export const UserspaceFlag = { USERDATA: 1, TUNNEL_PORT: 2, ACTIONS: 4 } as const;

/** Places of its words, counted from its head. */
export const Userspace = { PID: 1, FLAGS: 2, TUNNEL_PORT: 3, USERDATA_BYTES: 4, USERDATA: 5 } as const;

/** Parts of its attribute, OVS_USERSPACE_ATTR_*. */
const Part = { PID: 1, USERDATA: 2, TUNNEL_PORT: 3, ACTIONS: 4 } as const;

/** What is told besides the packet. */
export interface UserspaceOptions {
  readonly userdata?: Uint8Array;
  /** Report the tunnel that this port would send through. */
  readonly tunnelPort?: number;
  /** Report the flow's actions too. */
  readonly actions?: boolean;
}

export function userspaceWords(pid: number, { userdata, tunnelPort, actions }: UserspaceOptions): number[] {
  const flags =
    (userdata === undefined ? 0 : UserspaceFlag.USERDATA) |
    (tunnelPort === undefined ? 0 : UserspaceFlag.TUNNEL_PORT) |
    (actions === true ? UserspaceFlag.ACTIONS : 0);
  return [pid, flags, tunnelPort ?? 0, userdata?.length ?? 0, ...packBytes(userdata ?? new Uint8Array(0))];
}

function userdataAt(words: Int32Array, at: number): Uint8Array {
  return unpackBytes(words, at + Userspace.USERDATA, words[at + Userspace.USERDATA_BYTES]);
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export const userspace: ActionDescription<typeof Action.USERSPACE> = {
  type: Action.USERSPACE,
  layout: {
    fields: ['pid', 'flags', 'tunnel port', 'bytes of userdata'],
    tail: (words, at) => packedWords(words[at + Userspace.USERDATA_BYTES]),
  },
  flaw({ words }, at) {
    const bytes = words[at + Userspace.USERDATA_BYTES];
    if (bytes > 0 && (words[at + Userspace.FLAGS] & UserspaceFlag.USERDATA) === 0) return 'userdata without its flag';
    return words[at + Userspace.PID] === 0 ? 'pid 0 is nobody' : null;
  },
  leads: (to) => to.sentOn(),
  text: {
    name: 'userspace',
    format(words, at) {
      const flags = words[at + Userspace.FLAGS];
      let text = `userspace(pid=${words[at + Userspace.PID] >>> 0}`;
      if ((flags & UserspaceFlag.USERDATA) !== 0) text += `,userdata(${hexDigits(userdataAt(words, at))})`;
      if ((flags & UserspaceFlag.ACTIONS) !== 0) text += ',actions';
      const port = words[at + Userspace.TUNNEL_PORT] >>> 0;
      return (flags & UserspaceFlag.TUNNEL_PORT) === 0 ? `${text})` : `${text},tunnel_out_port=${port})`;
    },
    parse(scanner, builder) {
      const options: Mutable<UserspaceOptions> = {};
      scanner.expect('pid=');
      const pid = scanner.number(32);
      if (!scanner.eat(')')) {
        scanner.expect(',');
        scanner.list(() => {
          if (scanner.eat('userdata(')) {
            options.userdata = hexBytes(scanner);
            scanner.expect(')');
          } else if (scanner.eat('actions')) {
            options.actions = true;
          } else {
            scanner.expect('tunnel_out_port=');
            options.tunnelPort = scanner.number(32);
          }
        });
      }
      builder.userspace(pid, options);
    },
  },
  netlink: {
    write(to, words, at) {
      const flags = words[at + Userspace.FLAGS];
      const port = words[at + Userspace.TUNNEL_PORT] >>> 0;
      to.nest(Action.USERSPACE, () => {
        to.message.u32(Part.PID, words[at + Userspace.PID] >>> 0);
        if ((flags & UserspaceFlag.USERDATA) !== 0) to.message.bytes(Part.USERDATA, userdataAt(words, at));
        if ((flags & UserspaceFlag.TUNNEL_PORT) !== 0) to.message.u32(Part.TUNNEL_PORT, port);
        if ((flags & UserspaceFlag.ACTIONS) !== 0) to.message.flag(Part.ACTIONS);
      });
    },
    read(from, content, builder) {
      let pid = 0;
      const options: Mutable<UserspaceOptions> = {};
      const number = (value: Uint8Array) =>
        value.length < 4 ? from.refuse('userspace', TOO_SHORT) : from.number(value.subarray(0, 4));
      from.each(content, (type, value) => {
        if (type === Part.PID) pid = number(value);
        else if (type === Part.USERDATA) options.userdata = value;
        else if (type === Part.TUNNEL_PORT) options.tunnelPort = number(value);
        else if (type === Part.ACTIONS) options.actions = true;
      });
      if (pid === 0) from.refuse('userspace without pid');
      builder.userspace(pid, options);
    },
  },
  run(engine, words, at) {
    const { hooks, packet } = engine;
    engine.sent();
    if (hooks.userspace === undefined) engine.refuse(packet, Drop.UPCALL_LOST);
    hooks.userspace?.(packet, engine.key, words, at, engine.bounds, Math.min(packet.length, engine.limit));
    engine.limit = WHOLE;
    return true;
  },
};
