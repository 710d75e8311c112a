import type { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { DatapathThread } from './channel.ts';

test('a thread that does not start in time is ended', async () => {
  const begun = new Promise<Worker>((resolve) => process.once('worker', resolve));
  const start = DatapathThread.start(() => {}, '/nowhere.sock', false, 1);
  const said = expect(start).rejects.toThrow('the datapath thread did not start within 0.001 s');
  const worker = await begun;
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  await said;
  await ended;
});
