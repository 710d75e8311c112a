import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { EventLoop } from './loop.ts';
import { EpollEvent, eventfd, write } from './sys/index.ts';
import { wakeLoop } from './wake.ts';

const one = new Uint8Array(new BigUint64Array([1n]).buffer);

test('a handler is called while its descriptor is readable, and not after it is removed', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  const fd = eventfd();
  let calls = 0;
  loop.add(fd.number, {
    onReady: () => {
      calls += 1;
    },
    onError: () => {},
  });
  expect(loop.poll(0)).toBe(false);
  write(fd.number, one);
  loop.poll(0);
  loop.poll(0);
  expect(calls).toBe(2);
  loop.remove(fd.number);
  loop.remove(fd.number);
  loop.poll(0);
  expect(calls).toBe(2);
  fd.close();
  loop.close();
});

test('a handler that was removed by another in the same turn is not called', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  const fds = [eventfd(), eventfd()];
  let calls = 0;
  for (const fd of fds) {
    const onReady = (): void => {
      calls += 1;
      for (const other of fds) loop.remove(other.number);
    };
    loop.add(fd.number, { onReady, onError: () => {} });
    write(fd.number, one);
  }
  loop.poll(0);
  expect(calls).toBe(1);
  for (const fd of fds) fd.close();
  loop.close();
});

test('what was said of a descriptor before it was closed is not taken for news of the next one of its number', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  const fds = [eventfd(), eventfd()];
  const calls: number[] = [];
  const watch = (index: number) => {
    const onReady = () => {
      calls.push(index);
      const other = 1 - index;
      const { number } = fds[other];
      loop.remove(number);
      fds[other].close();
      fds[other] = eventfd();
      expect(fds[other].number).toBe(number);
      watch(other);
    };
    loop.add(fds[index].number, { onReady, onError: () => {} });
  };
  for (const [index, fd] of fds.entries()) {
    watch(index);
    write(fd.number, one);
  }
  loop.poll(0);
  expect(calls).toHaveLength(1);
  const other = 1 - calls[0];
  loop.remove(fds[calls[0]].number);
  write(fds[other].number, one);
  loop.poll(0);
  expect(calls).toEqual([1 - other, other]);
  for (const fd of fds) fd.close();
  loop.close();
});

test('adding a descriptor twice is refused', () => {
  const loop = new EventLoop();
  const fd = eventfd();
  const handler = { onReady: () => {}, onError: () => {} };
  loop.add(fd.number, handler);
  expect(() => loop.add(fd.number, handler)).toThrow(RangeError);
  fd.close();
  loop.close();
});

test('writable is reported when it is asked for', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  const fd = eventfd();
  const seen: number[] = [];
  loop.add(fd.number, { onReady: (events) => void seen.push(events), onError: () => {} });
  loop.modify(fd.number, EpollEvent.IN | EpollEvent.OUT);
  loop.poll(0);
  expect(seen).toEqual([EpollEvent.OUT]);
  fd.close();
  loop.close();
});

test('it sleeps until the next timer, and runs until it is stopped', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  const start = performance.now();
  loop.timers.once(30, { onTimer: () => loop.stop() });
  loop.run();
  expect(performance.now() - start).toBeGreaterThanOrEqual(29);
  expect(performance.now() - start).toBeLessThan(2000);
  loop.close();
});

test('it sleeps without using the processor', () => {
  const loop = new EventLoop();
  loop.timers.once(400, { onTimer: () => loop.stop() });
  const before = process.cpuUsage();
  loop.run();
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1000).toBeLessThan(100);
  loop.close();
});

test('a poller that finds work is asked again at once; descriptors and timers get their turn all the same', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  const fd = eventfd();
  write(fd.number, one);
  let work = 0;
  let ready = 0;
  const poller = { poll: () => (work += 1) };
  loop.addPoller(poller);
  loop.add(fd.number, {
    onReady: () => {
      ready += 1;
    },
    onError: () => {},
  });
  let timerAt = 0;
  loop.timers.once(0, {
    onTimer: () => {
      timerAt = work;
    },
  });
  for (let turn = 0; turn < 32; turn += 1) expect(loop.poll(1000)).toBe(true);
  expect(work).toBe(32);
  // More often where a turn takes long, as on a busy machine.
  expect(ready).toBeGreaterThanOrEqual(2);
  expect(timerAt).toBeGreaterThan(0);
  expect(timerAt).toBeLessThanOrEqual(16);
  loop.removePoller(poller);
  loop.poll(0);
  expect(work).toBe(32);
  fd.close();
  loop.close();
});

test('where packets take long, descriptors get their turn after each batch', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  const fd = eventfd();
  write(fd.number, one);
  let ready = 0;
  loop.addPoller({
    poll() {
      const begun = performance.now();
      while (performance.now() - begun < 2);
      return 1;
    },
  });
  loop.add(fd.number, {
    onReady: () => {
      ready += 1;
    },
    onError: () => {},
  });
  for (let turn = 0; turn < 5; turn += 1) loop.poll(0);
  expect(ready).toBe(5);
  fd.close();
  loop.close();
});

test('another thread wakes it out of its sleep', async () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  let woken = 0;
  loop.wakeHandler = {
    onWake: () => {
      woken += 1;
      loop.stop();
    },
  };
  // A thread that writes to the eventfd by number, as wakeLoop does, once this thread is in epoll_wait.
  const code = `const { workerData } = require('node:worker_threads');
    setTimeout(() => require('node:fs').writeSync(workerData, new Uint8Array(new BigUint64Array([1n]).buffer)), 50);`;
  const worker = new Worker(code, { eval: true, workerData: loop.wakeDescriptor });
  await once(worker, 'online');
  const start = performance.now();
  loop.run();
  expect(woken).toBe(1);
  expect(performance.now() - start).toBeLessThan(5000);
  await worker.terminate();
  loop.close();
});

test('many wake-ups before it looks become one', () => {
  const loop = new EventLoop({ busyPollUs: 0 });
  let woken = 0;
  loop.wakeHandler = {
    onWake: () => {
      woken += 1;
    },
  };
  for (let i = 0; i < 5; i += 1) wakeLoop(loop.wakeDescriptor);
  loop.poll(0);
  loop.poll(0);
  expect(woken).toBe(1);
  loop.close();
});

test("Node's own loop has a turn every second, in which it does what waits there, until the loop is stopped", async () => {
  const loop = new EventLoop();
  const done: string[] = [];
  setTimeout(() => done.push('timer'), 0);
  void Promise.resolve().then(() => done.push('microtask'));
  loop.timers.every(20, {
    onTimer: () => {
      if (done.includes('timer') && done.includes('microtask')) loop.stop();
    },
  });
  expect(await new Promise<boolean>((resolve) => loop.runOnThread(resolve))).toBe(false);
  expect(done.sort()).toEqual(['microtask', 'timer']);
  loop.close();
});

test('a run ends after its time, and says that it was not stopped', () => {
  const loop = new EventLoop();
  let ticks = 0;
  loop.timers.every(1, {
    onTimer: () => {
      ticks += 1;
    },
  });
  expect(loop.run(20)).toBe(false);
  expect(ticks).toBeGreaterThan(0);
  loop.timers.once(1, { onTimer: () => loop.stop() });
  expect(loop.run(60_000)).toBe(true);
  loop.close();
});

test('what a handler throws ends the loop for good, and goes on', () => {
  const loop = new EventLoop();
  const ends: boolean[] = [];
  loop.timers.once(1, {
    onTimer: () => {
      throw new Error('a handler');
    },
  });
  expect(() =>
    loop.runOnThread((failed) => {
      ends.push(failed);
    }),
  ).toThrow('a handler');
  expect(ends).toEqual([true]);
  loop.close();
});
