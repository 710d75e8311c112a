/**
 * The datapath thread: the event loop that packets flow through, and the message port to the control thread. Nothing here waits on Node's
 * own loop, which has a turn once a second: messages are taken off the port when the control thread has woken the loop (channel.ts).
 */
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EventLoop, findLeftTaps, onLostMapping } from '../../host/index.ts';
import type { CallMessage, UpMessage } from './calls.ts';
import { confineThread } from './confine.ts';
import { ownerOf } from './continuations.ts';
import { GracePeriods } from './grace-periods.ts';
import { Pulse } from './pulse.ts';
import { RunningSwitch } from './running-switch.ts';

/** What the control thread gives to this one. */
export interface WorkerData {
  port: MessagePort;
  /** Path that names this daemon among others. */
  identity: string;
  pulse: SharedArrayBuffer;
  graces: SharedArrayBuffer;
  /** The process follows another of the same daemon, which may have left TAPs to it. */
  follows: boolean;
}

const { port, identity, follows, pulse: memory, graces: graceMemory } = workerData as WorkerData;
// Modules of users can have them as well, and with the port speak for the switch.
for (const name of Object.keys(workerData as object)) Reflect.deleteProperty(workerData as object, name);
const up = (message: UpMessage) => port.postMessage(message);

const pulse = new Pulse(memory, (number, name) => up({ type: 'entry', number, name }));
const loop = new EventLoop({ pulse });
if (follows) findLeftTaps();
const graces = new GracePeriods(graceMemory, () => up({ type: 'grace' }));
const datapath = new RunningSwitch(loop, up, identity, pulse, graces);
loop.wakeHandler = {
  onWake() {
    for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
      datapath.handle(got.message as CallMessage);
    }
  },
};
let isOver = false;
// What extensions begin and do not wait for ends in Node's turns, where no guard of the switch stands around it.
process.on('uncaughtException', (error) => {
  if (isOver) throw pulse.causeOf(error);
  datapath.failedOutside(error, pulse.thrower);
});
process.on('unhandledRejection', (reason, promise) => {
  if (!isOver) datapath.failedOutside(reason, pulse.nameOf(ownerOf(promise)));
});
onLostMapping((doing, lengthBytes) => {
  up({
    type: 'log',
    level: 'warn',
    message: 'memory was collected that nobody had given back',
    fields: { doing, lengthBytes },
  });
});
up({ type: 'ready', wakeDescriptor: loop.wakeDescriptor });
const release = confineThread();
loop.runOnThread((failed) => {
  isOver = true;
  release();
  // Then nothing is closed: flows in the kernel go on, and the process gives back what the thread had.
  if (failed) return;
  datapath.close();
  loop.close();
  port.close();
  // Whatever an extension has left for Node's own loop does not keep the thread alive.
  process.exit(0);
});
