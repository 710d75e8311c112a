import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { Decision, FlowCounter } from '../../decide/index.ts';
import { Batch, Packet } from '../../net/index.ts';
import { ownClasses } from './modules/rooms.ts';
import { SharedObjects } from './shared-objects.ts';

const changes: Readonly<Record<string, () => void>> = {
  'Object.prototype.evil': () => Object.assign(Object.prototype, { evil: 1 }),
  'Array.prototype.push': () => {
    Array.prototype.push = () => {
      throw new Error('hijacked');
    };
  },
  'Map.prototype.get': () => {
    Map.prototype.get = () => undefined;
  },
  'DataView.prototype.getUint16': () => {
    DataView.prototype.getUint16 = () => 7;
  },
  'Date.now': () => {
    Date.now = () => 0;
  },
  'Performance.prototype.now': () => {
    Object.getPrototypeOf(performance).now = () => 0;
  },
  'performance.now': () => {
    performance.now = () => 0;
  },
  'array iterators.next': () => {
    Object.getPrototypeOf([][Symbol.iterator]()).next = () => ({ done: true, value: undefined });
  },
};

const quietChanges: Readonly<Record<string, () => void>> = {
  'RegExp.prototype.exec': () => Reflect.deleteProperty(RegExp.prototype, 'exec'),
  'Error.prepareStackTrace': () => {
    Error.prepareStackTrace = () => '';
  },
  'Buffer.from': () => {
    Reflect.set(Buffer, 'from', () => null);
  },
  'MessagePort.prototype.postMessage': () => {
    MessagePort.prototype.postMessage = () => {};
  },
  'process.nextTick': () => {
    process.nextTick = () => {};
  },
  'EventEmitter.prototype.emit': () => {
    EventEmitter.prototype.emit = () => false;
  },
  'Promise.resolve': () => {
    Reflect.set(Promise, 'resolve', () => null);
  },
};

for (const [what, change] of Object.entries(quietChanges)) {
  test(`${what} is found by the thorough look, named and put back`, () => {
    const shared = new SharedObjects();
    expect(shared.repair()).toBeNull();
    change();
    const found = shared.repair();
    expect(found).toContain(what);
    expect(found).toContain('it was put back');
    expect(shared.repair()).toBeNull();
  });
}

test('methods of the switch that were changed, and what was added to its classes, are found, named and put back', () => {
  const shared = new SharedObjects(ownClasses());
  expect(shared.repair()).toBeNull();
  const { release } = Packet.prototype;
  Packet.prototype.release = () => {};
  expect(shared.repair()).toContain('Packet.prototype.release');
  expect(Packet.prototype.release).toBe(release);
  Object.assign(Batch.prototype, { evil: 1 });
  expect(shared.repair()).toContain('Batch.prototype.evil, which all code of the switch shares; it was put back');
  expect('evil' in Batch.prototype).toBe(false);
  Reflect.set(FlowCounter, 'total', 1);
  Reflect.deleteProperty(Decision.prototype, 'drop');
  expect(shared.repair()).toMatch(/Decision\.prototype\.drop|FlowCounter\.total/);
  expect([Object.hasOwn(FlowCounter, 'total'), 'drop' in Decision.prototype]).toEqual([false, true]);
  expect(shared.repair()).toBeNull();
});

test("what Node sets, and what anybody may set, is nobody's fault", () => {
  const shared = new SharedObjects();
  Error.stackTraceLimit += 1;
  process.title = 'other';
  process.exitCode = 0;
  process.setMaxListeners(20);
  process.once('SIGUSR2', () => {}).removeAllListeners('SIGUSR2');
  expect([shared.spoilt(), shared.repair()]).toEqual([null, null]);
});

for (const [what, change] of Object.entries(changes)) {
  test(`${what} is noticed at once, named and put back`, () => {
    const shared = new SharedObjects();
    expect(shared.spoilt()).toBeNull();
    change();
    const spoilt = shared.spoilt();
    expect(spoilt).toContain(what);
    expect(shared.spoilt()).toBeNull();
    expect([1].push(2)).toBe(2);
    expect('evil' in {}).toBe(false);
    expect(new Map([[1, 2]]).get(1)).toBe(2);
  });
}

test('global names that were changed or deleted are noticed at once, named and put back', () => {
  const shared = new SharedObjects();
  const [atomics, program] = [Atomics, process];
  for (const name of ['Atomics', 'process', 'performance']) {
    Reflect.set(globalThis, name, null);
    expect(shared.spoilt()).toContain(`globalThis.${name}`);
    Reflect.deleteProperty(globalThis, name);
    expect(shared.spoilt()).toContain(`globalThis.${name}`);
    expect(shared.spoilt()).toBeNull();
  }
  expect([Atomics, process]).toEqual([atomics, program]);
});

test('what cannot be put back is told once, and said to last; what comes later is told by itself', () => {
  const shared = new SharedObjects();
  // Of all that is shared this is missed least.
  Object.defineProperty(Atomics, 'evil', { value: 1 });
  expect(shared.repair()).toMatch(/Atomics\.evil.*Atomics\.evil cannot be put back/);
  expect(shared.lasts).toBe(true);
  expect(shared.repair()).toBeNull();
  const { keys } = Object;
  Object.keys = () => [];
  expect(shared.repair()).toMatch(/Object\.keys.*it was put back/);
  expect(shared.lasts).toBe(false);
  expect(Object.keys).toBe(keys);
  Object.freeze(Reflect);
  expect(shared.repair()).toMatch(/Reflect.*cannot be put back/);
  expect(shared.repair()).toBeNull();
});

test('what is changed less in the open is found by the thorough look', () => {
  const shared = new SharedObjects();
  const { keys } = Object;
  Object.keys = () => [];
  expect(shared.repair()).toContain('Object.keys');
  expect(Object.keys).toBe(keys);
  expect(shared.repair()).toBeNull();
});
