/** Starts the thread of a workshop aside. */
import { MessageChannel, Worker } from 'node:worker_threads';
import { WorkshopAside } from './aside.ts';

/** A program takes some megabytes to write, and is forgotten then. */
const LIMITS = { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 256 };

/**
 * Start it. It is at work some tens of milliseconds later; what is ordered until then the calling thread makes.
 * @param warn told when it has ended by itself: from then on the calling thread makes everything
 */
export function startWorkshop(warn: (message: string) => void): WorkshopAside {
  const { port1, port2 } = new MessageChannel();
  const source = import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js';
  const workshop = new WorkshopAside(port1);
  const worker = new Worker(new URL(source, import.meta.url), {
    name: 'millrace-workshop',
    workerData: { port: port2 },
    transferList: [port2],
    resourceLimits: LIMITS,
  });
  let why = 'it has ended';
  worker.on('error', (error) => {
    why = error.message;
  });
  worker.on('exit', () => {
    if (workshop.isClosed) return;
    const message = `the thread that makes programs is gone: ${why}`;
    workshop.gone(message);
    warn(`${message}; packets wait from now on while programs are made`);
  });
  worker.unref();
  port1.unref();
  return workshop;
}
