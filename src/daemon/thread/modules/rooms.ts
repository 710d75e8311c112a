/**
 * The rooms that modules of users import, and what of them such modules must not change: classes, which all code of the thread shares. Neighbours: load-module.ts hands
 * rooms out; shared-objects.ts sees that what is shared stays what it was.
 */
import * as bpf from '../../../bpf/index.ts';
import * as connections from '../../../connections/index.ts';
import * as decide from '../../../decide/index.ts';
import * as flow from '../../../flow/index.ts';
import * as host from '../../../host/index.ts';
import * as net from '../../../net/index.ts';
import * as netlink from '../../../netlink/index.ts';
import * as virtualSwitch from '../../../switch/index.ts';

/** The rooms that package.json exports. */
export const ROOMS: ReadonlyMap<string, object> = new Map(
  Object.entries({ net, netlink, host, bpf, switch: virtualSwitch, flow, connections }),
);

/** Classes that modules of users can reach: those that are exported, those of what they are handed, and what these extend. With their prototypes, by name. */
export function ownClasses(): [string, object][] {
  const found = new Map<object, string>();
  for (const room of [...ROOMS.values(), decide]) {
    for (const value of Object.values(room)) {
      for (let each: unknown = value; isClass(each); each = Object.getPrototypeOf(each)) {
        found.set(each, each.name);
        found.set(each.prototype as object, `${each.name}.prototype`);
      }
    }
  }
  return [...found].map(([object, name]) => [name, object]);
}

/** One that is written in JavaScript: those of Node and the language are looked at by themselves. */
function isClass(value: unknown): value is new () => unknown {
  return typeof value === 'function' && Function.prototype.toString.call(value).startsWith('class');
}
