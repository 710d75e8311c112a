/**
 * What code in the datapath thread must not call, above all that of users' extensions: `process.exit` would end the thread with all ports,
 * `process.kill` the daemon, and a timer of Node's fires up to a second late, as Node's own loop has one turn a second there. Each of them throws a sentence
 * that says what to do instead; the guard of the switch then disables the extension that called it.
 */

/** Calls of `process`, with what to do instead. */
const PROCESS_CALLS: Readonly<Record<string, string>> = {
  exit: 'it would end the switch; throw an Error to be disabled',
  reallyExit: 'it would end the switch; throw an Error to be disabled',
  abort: 'it would end the switch; throw an Error to be disabled',
  kill: 'processes of the machine are none of its business',
  _kill: 'processes of the machine are none of its business',
};
const TIMER_CALLS = ['setTimeout', 'setInterval', 'setImmediate'] as const;

/** Replace them. @returns puts them back: Node itself ends a thread by them */
export function confineThread(): () => void {
  const undo = [
    ...Object.entries(PROCESS_CALLS).map(([name, why]) => refuse(process, name, `process.${name}`, why)),
    ...TIMER_CALLS.map((name) =>
      refuse(globalThis, name, name, 'Node has one turn a second in the datapath; use handle.setTimer'),
    ),
  ];
  return () => {
    for (const putBack of undo) putBack();
  };
}

function refuse(object: object, name: string, shown: string, why: string): () => void {
  const before = Object.getOwnPropertyDescriptor(object, name);
  const value = () => {
    throw new Error(`${shown} is not for extensions: ${why}`);
  };
  Object.defineProperty(object, name, { value, writable: false, configurable: true, enumerable: true });
  return () => {
    if (before === undefined) Reflect.deleteProperty(object, name);
    else Object.defineProperty(object, name, before);
  };
}
