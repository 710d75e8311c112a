/**
 * The datapath thread: the event loop that packets flow through, and the message port to the control thread. Nothing here waits on Node's
 * own loop: messages are taken off the port when the control thread has woken the loop (channel.ts).
 */
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EventLoop } from '../../host/index.ts';
import type { CallMessage, UpMessage } from './calls.ts';
import { Datapath } from './datapath.ts';

const { port, identity } = workerData as { port: MessagePort; identity: string };
const up = (message: UpMessage) => port.postMessage(message);

const loop = new EventLoop();
const datapath = new Datapath(loop, up, identity);
loop.wakeHandler = {
  onWake() {
    for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
      datapath.handle(got.message as CallMessage);
    }
  },
};
try {
  up({ type: 'ready', wakeDescriptor: loop.wakeDescriptor });
  loop.run();
} finally {
  datapath.close();
  loop.close();
  port.close();
}
