/** The thread that makes programs and tables, order by order, for as long as there is somebody who may give one. work.ts says how. */
import { type MessagePort, workerData } from 'node:worker_threads';
import { type OrderData, work } from './work.ts';

const { port } = workerData as { readonly port: MessagePort };
port.on('message', (order: OrderData) => port.postMessage(work(order)));
port.postMessage('ready');
