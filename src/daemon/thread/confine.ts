/**
 * What code in the datapath thread must not call, above all that of users' extensions: `process.exit` would end the thread with all ports,
 * `process.kill` the daemon, a timer of Node's fires up to a second late, as Node's own loop has one turn a second there, and a descriptor that somebody else has opened
 * is a ring, the loop, or the control socket. Each of these throws a sentence that says what to do instead; the guard of the switch then disables the extension that called it.
 */
import fs from 'node:fs';

type Method = (this: unknown, ...args: unknown[]) => unknown;

/** Calls of `process`, with what to do instead. */
const PROCESS_CALLS: Readonly<Record<string, string>> = {
  exit: 'it would end the switch; throw an Error to be disabled',
  reallyExit: 'it would end the switch; throw an Error to be disabled',
  abort: 'it would end the switch; throw an Error to be disabled',
  kill: 'processes of the machine are none of its business',
  _kill: 'processes of the machine are none of its business',
  setUncaughtExceptionCaptureCallback: 'what fails outside of a call is told by the switch',
};
const TIMER_CALLS = ['setTimeout', 'setInterval', 'setImmediate'] as const;
/** Those take listeners off. */
const LISTENER_CALLS = ['off', 'removeListener', 'removeAllListeners'] as const;
const OUR_EVENTS: readonly unknown[] = ['uncaughtException', 'unhandledRejection', undefined];

/** Replace them. @returns puts them back: Node itself ends a thread by them */
export function confineThread(): () => void {
  const undo = [
    ...Object.entries(PROCESS_CALLS).map(([name, why]) => refuse(process, name, `process.${name}`, why)),
    ...TIMER_CALLS.map((name) =>
      refuse(globalThis, name, name, 'Node has one turn a second in the datapath; use handle.setTimer'),
    ),
    ...LISTENER_CALLS.map((name) =>
      wrap(
        process,
        name,
        (before) =>
          function (this: unknown, ...args) {
            if (OUR_EVENTS.includes(args[0]))
              throw refusal(`process.${name}`, 'by them the switch hears of what fails');
            return before.apply(this, args);
          },
      ),
    ),
    ...confineDescriptors(),
  ];
  return () => {
    for (const putBack of undo) putBack();
  };
}

/**
 * Files may be closed by whoever has opened them through the object that modules of users are given as `node:fs`; our own code has other bindings
 * of the same functions.
 */
function confineDescriptors(): (() => void)[] {
  const opened = new Set<unknown>();
  const check = (fd: unknown): void => {
    if (!opened.delete(fd)) throw refusal('fs.close', `descriptor ${String(fd)} was not opened by node:fs here`);
  };
  return [
    wrap(
      fs,
      'openSync',
      (before) =>
        function (this: unknown, ...args) {
          const fd = before.apply(this, args);
          opened.add(fd);
          return fd;
        },
    ),
    wrap(
      fs,
      'open',
      (before) =>
        function (this: unknown, ...args) {
          const done = args.at(-1);
          if (typeof done !== 'function') return before.apply(this, args);
          return before.call(this, ...args.slice(0, -1), (error: unknown, fd: unknown) => {
            if (fd !== undefined) opened.add(fd);
            done(error, fd);
          });
        },
    ),
    ...(['closeSync', 'close'] as const).map((name) =>
      wrap(
        fs,
        name,
        (before) =>
          function (this: unknown, ...args) {
            check(args[0]);
            return before.apply(this, args);
          },
      ),
    ),
  ];
}

function refusal(shown: string, why: string): Error {
  return new Error(`${shown} is not for extensions: ${why}`);
}

function refuse(object: object, name: string, shown: string, why: string): () => void {
  return replace(object, name, () => {
    throw refusal(shown, why);
  });
}

function wrap(object: object, name: string, around: (before: Method) => Method): () => void {
  return replace(object, name, around(Reflect.get(object, name) as Method));
}

function replace(object: object, name: string, value: unknown): () => void {
  const before = Object.getOwnPropertyDescriptor(object, name);
  Object.defineProperty(object, name, { value, writable: false, configurable: true, enumerable: true });
  return () => {
    if (before === undefined) Reflect.deleteProperty(object, name);
    else Object.defineProperty(object, name, before);
  };
}
