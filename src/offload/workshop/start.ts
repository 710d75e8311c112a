/** Starts the thread of a workshop aside. */
import { MessageChannel, Worker } from 'node:worker_threads';
import { WorkshopAside } from './aside.ts';

/** A program takes some megabytes to write, and is forgotten then. */
const LIMITS = { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 256 };

/**
 * A workshop whose thread begins with the first order and ends when there are none for some time. Until it is at work, some tens of milliseconds later, the
 * calling thread makes what is ordered.
 * @param warn told when a thread has ended by itself: from then on the calling thread makes everything
 */
export function startWorkshop(warn: (message: string) => void): WorkshopAside {
  const workshop = new WorkshopAside(() => {
    const { port1, port2 } = new MessageChannel();
    const source = import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js';
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
      if (!workshop.has(port1)) return;
      const message = `the thread that makes programs is gone: ${why}`;
      workshop.gone(message);
      warn(`${message}; packets wait from now on while programs are made`);
    });
    worker.unref();
    port1.unref();
    return { port: port1, stop: () => void worker.terminate() };
  });
  return workshop;
}
