/** Extensions that do what they must not: they are disabled and named, packets are given back, traffic goes on (rule 44 and the guard). */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Batch, type Packet } from '../../net/index.ts';
import {
  type Extension,
  type ExtensionFactory,
  type ExtensionHandle,
  type ExtensionType,
  PacketFlag,
} from '../index.ts';
import { plainJson } from '../plain-json.ts';
import { Bench, batchOf, extension, frame, keep, passing } from '../testing.ts';
import { errorOf, messageOf } from '../thrown.ts';

/** Two ports, data not verified, so that what is found is found by the guard. */
function fragile(): Bench {
  const bench = new Bench({ verifyData: false });
  bench.failuresExpected = true;
  bench.port(1);
  bench.port(2);
  return bench;
}

/** Everything has been given back, and the next packet crosses. */
function expectHealthy(bench: Bench): void {
  for (const nic of bench.nics.values()) nic.take();
  expect(bench.outstanding).toBe(0);
  const { received, originated, delivered, dropped, consumed, contextsInUse } = bench.sw.counters;
  expect(contextsInUse).toBe(0);
  expect(received + originated).toBe(delivered + dropped + consumed);
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
  expect(bench.outstanding).toBe(0);
}

function trap(): never {
  throw new Error('trap');
}

/** Things that may be thrown. */
const THROWN: Readonly<Record<string, () => unknown>> = {
  undefined: () => undefined,
  null: () => null,
  'a symbol': () => Symbol('bad'),
  'a bigint': () => 10n,
  'a proxy whose every trap throws': () => new Proxy({}, { get: trap, has: trap, getPrototypeOf: trap }),
  'an error whose message throws': () => Object.defineProperty(new Error('x'), 'message', { get: trap }),
  'an error whose message is no text': () => Object.defineProperty(new Error('x'), 'message', { value: Symbol('x') }),
  'an error whose stack throws': () => Object.defineProperty(new Error('x'), 'stack', { get: trap }),
  'an object without a prototype': () => Object.create(null) as unknown,
  'an object whose toString throws': () => ({ toString: trap }),
  'an error of a megabyte': () => new Error('x'.repeat(1 << 20)),
};

for (const [what, make] of Object.entries(THROWN)) {
  test(`an extension that throws ${what} is disabled and named, in every handler`, () => {
    const fail = (): never => {
      throw make();
    };
    const cases: Extension[] = [
      { onIngress: fail },
      { onEgress: fail },
      { onIngress: fail, detach: fail },
      { restart: fail },
      { onOid: fail },
    ];
    for (const handlers of cases) {
      const bench = fragile();
      bench.enable('bad', 'filtering', () => handlers);
      bench.receive(1, frame(), frame());
      bench.sw.updatePort(1, { name: 'renamed' });
      bench.sw.createPort({ portId: 3, name: 'p3' });
      const failed = bench.events.filter((event) => event.type === 'extension-failed');
      expect(failed).toMatchObject([{ name: 'bad' }]);
      expect(bench.sw.extensions()[0].failure?.length).toBeLessThan(3_000);
      expectHealthy(bench);
    }
    for (const factory of [
      { parseConfiguration: fail, create: () => ({}) },
      { create: fail },
      { create: () => ({ attach: fail }) },
    ]) {
      const bench = fragile();
      const descriptor = { name: 'bad', type: 'filtering', version: '1' } as const;
      expect(() => bench.sw.enableExtension({ descriptor, ...factory }).result()).toThrow(/extension bad/);
      expectHealthy(bench);
    }
    const bench = fragile();
    bench.enable('bad', 'filtering', () => ({ ...passing, status: fail, command: fail }));
    expect(() => bench.sw.extensionCommand('bad', 'x', null)).toThrow('extension bad: ');
    expect(() => bench.sw.extensionStatus('bad')).toThrow('extension bad failed in status');
    expectHealthy(bench);
  });
}

test('whatever is thrown is described, in bounded text', () => {
  fc.assert(
    fc.property(fc.anything({ withBigInt: true, withNullPrototype: true, withSparseArray: true }), (thrown) => {
      expect(messageOf(thrown).length).toBeLessThan(2_100);
      expect(errorOf(thrown).message).toBe(messageOf(thrown));
    }),
  );
});

type Sabotage = (handle: ExtensionHandle, batch: Batch, flags: number) => void;

/** A descriptor as an extension in JavaScript can write to it. */
type Written = Record<keyof Packet, unknown>;

function writeAll(batch: Batch, values: Partial<Written>): void {
  for (const packet of batch.packets.slice(0, batch.count)) Object.assign(packet, values);
}

/** What an extension may do to packets that it is handed; each is to be noticed by the switch. */
const SABOTAGE: Readonly<Record<string, Sabotage>> = {
  'adds a packet to its batch again': (handle, batch, flags) => {
    for (let i = 0; i < 100; i += 1) batch.push(batch.packets[0]);
    pass(handle, batch, flags);
  },
  'ends a packet twice in one batch': (handle, batch) => {
    batch.push(batch.packets[0]);
    end(handle, batch);
  },
  'clears the attachment': (handle, batch, flags) => {
    writeAll(batch, { attachment: null });
    pass(handle, batch, flags);
  },
  'puts something of its own into the attachment': (handle, batch, flags) => {
    writeAll(batch, { attachment: { holder: 1 } });
    pass(handle, batch, flags);
  },
  'exchanges the attachments of two packets': (handle, batch, flags) => {
    const [first, second] = batch.packets;
    [first.attachment, second.attachment] = [second.attachment, first.attachment];
    pass(handle, batch, flags);
  },
  'writes nonsense into length and offset': (handle, batch, flags) => {
    writeAll(batch, { length: 1 << 30, offset: -5 });
    pass(handle, batch, flags);
  },
  'writes a length that is no number': (handle, batch, flags) => {
    writeAll(batch, { length: Number.NaN });
    pass(handle, batch, flags);
  },
  'writes a length in the middle of a byte': (handle, batch, flags) => {
    writeAll(batch, { length: 60.5 });
    pass(handle, batch, flags);
  },
  'cuts the Ethernet header off': (handle, batch, flags) => {
    writeAll(batch, { length: 5 });
    pass(handle, batch, flags);
  },
  'widens the bounds of the memory': (handle, batch, flags) => {
    writeAll(batch, { limit: 1 << 30, length: 1 << 20 });
    pass(handle, batch, flags);
  },
  'puts other memory behind the packet': (handle, batch, flags) => {
    writeAll(batch, { bytes: new Uint8Array(64), offset: 0 });
    pass(handle, batch, flags);
  },
  'asks for segments of no bytes': (handle, batch, flags) => {
    writeAll(batch, { gsoType: 1, gsoSizeBytes: 0 });
    pass(handle, batch, flags);
  },
  'asks for a checksum behind the frame': (handle, batch, flags) => {
    writeAll(batch, { checksum: 1, checksumStart: 5_000, checksumOffset: 16 });
    pass(handle, batch, flags);
  },
  'writes a count that is too large': (handle, batch, flags) => {
    batch.count = 1e9;
    pass(handle, batch, flags);
  },
  'writes a count that is none': (handle, batch, flags) => {
    batch.count = Number.NaN;
    pass(handle, batch, flags);
  },
  'hands over what is no batch': (handle) => pass(handle, { packets: [{}], count: 1 } as unknown as Batch, 0),
  'hands over nothing': (handle) => pass(handle, null as unknown as Batch, 0),
  'makes a batch of what are no packets': (handle) => pass(handle, batchOf({} as Packet, null as unknown as Packet), 0),
  'puts what is no packet behind one that is': (handle, batch) =>
    pass(handle, batchOf(batch.packets[0], null as unknown as Packet), 0),
  'puts an empty object behind a packet': (handle, batch) => pass(handle, batchOf(batch.packets[0], {} as Packet), 0),
  'returns a promise': () => Promise.resolve() as unknown as undefined,
};

let egress = false;
const pass = (handle: ExtensionHandle, batch: Batch, flags: number): void =>
  egress ? handle.indicateEgress(batch, flags) : handle.sendIngress(batch, flags);
const end = (handle: ExtensionHandle, batch: Batch): void =>
  egress ? handle.returnEgress(batch) : handle.completeIngress(batch);

for (const [what, sabotage] of Object.entries(SABOTAGE)) {
  for (const type of ['capturing', 'filtering'] as const) {
    for (const direction of ['onIngress', 'onEgress'] as const) {
      test(`a ${type} extension that ${what} in ${direction} is disabled by name, and nothing is lost but what it held`, () => {
        if (what.startsWith('ends') && type === 'capturing') return;
        egress = direction === 'onEgress';
        const bench = fragile();
        let told = 0;
        bench.enable('watcher', 'capturing', (handle) => ({
          ...passing(handle),
          onIngressComplete: (batch) => {
            for (const packet of batch.packets.slice(0, batch.count)) {
              told += 1;
              if (packet.offset + packet.length > packet.limit) throw new Error('a packet beyond its memory came by');
            }
          },
        }));
        bench.enable(
          'bad',
          type,
          (handle) => ({ [direction]: (batch: Batch, flags: number) => sabotage(handle, batch, flags) }),
          0,
        );
        bench.receive(1, frame(), frame(), frame());
        expect(bench.events.filter((event) => event.type === 'extension-failed')).toMatchObject([
          { name: 'bad', where: direction },
        ]);
        expect(bench.sw.extensions().find((info) => info.name === 'bad')).toMatchObject({ enabled: false });
        expectHealthy(bench);
        expect(told).toBeGreaterThan(0);
      });
    }
  }
}

/** What an extension may still do to packets that it has passed on. */
const AFTERWARDS: Readonly<Record<string, Partial<Written>>> = {
  'clears the attachment': { attachment: null },
  'puts something of its own into the attachment': { attachment: { holder: 1 } },
  'writes nonsense into the descriptor': { length: 1 << 30, offset: -5 },
};

for (const [what, values] of Object.entries(AFTERWARDS)) {
  test(`an extension that ${what} after it has passed a packet on does no harm to others`, () => {
    const bench = fragile();
    bench.enable('bad', 'filtering', (handle) => ({
      onIngress: (batch, flags) => {
        const kept = batchOf(...batch.packets.slice(0, batch.count));
        handle.sendIngress(batch, flags);
        writeAll(kept, values);
      },
      onIngressComplete: () => {},
    }));
    bench.receive(1, frame(), frame());
    expect(bench.reached()).toEqual([2, 2]);
    expectHealthy(bench);
  });

  test(`an extension that ${what} when it is told of the end of packets does no harm to others`, () => {
    const bench = fragile();
    bench.enable('bad', 'filtering', (handle) => ({
      ...passing(handle),
      onEgressReturn: (batch) => writeAll(batch, values),
    }));
    bench.enable('good', 'filtering', (handle) => ({ ...passing(handle), onIngressComplete: () => {} }));
    bench.receive(1, frame(), frame());
    expect(bench.reached()).toEqual([2, 2]);
    expectHealthy(bench);
  });
}

test('an extension that corrects itself after a refusal goes on: a refused call has changed nothing', () => {
  const bench = fragile();
  const refusals: string[] = [];
  bench.enable('clumsy', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      batch.push(batch.packets[0]);
      try {
        handle.sendIngress(batch, flags);
      } catch (error) {
        refusals.push(messageOf(error));
      }
      batch.count -= 1;
      handle.sendIngress(batch, flags);
    },
  }));
  bench.receive(1, frame(), frame());
  expect(refusals).toEqual([expect.stringContaining('twice in one batch (rule 44')]);
  expect(bench.reached()).toEqual([2, 2]);
});

test('an extension that writes to the destinations of a context does not stop the packets behind it', () => {
  const bench = fragile();
  bench.enable('bad', 'filtering', (handle) => ({
    onEgress: (batch, flags) => {
      handle.context(batch.packets[0]).destinationPorts.fill(60_000);
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  bench.sw.disableExtension('bad').result();
  expect(bench.reached()).toEqual([]);
  expect(bench.outstanding).toBe(0);
  expect(bench.drops(0)).toEqual({ NIC_NOT_CONNECTED: 1 });
});

test('a packet that an extension originates has a context only once, and bounds within its memory', () => {
  const bench = fragile();
  const errors: string[] = [];
  bench.enable('maker', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      const packet = handle.allocate();
      if (packet === null) throw new Error('no packet');
      const { limit } = packet;
      for (const wrong of [{}, { ...packet }]) {
        try {
          handle.allocateContext(wrong as Packet);
        } catch (error) {
          errors.push(messageOf(error));
        }
      }
      packet.limit = 1 << 30;
      try {
        handle.allocateContext(packet);
      } catch (error) {
        errors.push(messageOf(error));
      }
      packet.limit = limit;
      packet.release();
      handle.sendIngress(batch, flags & PacketFlag.SINGLE_SOURCE);
    },
  }));
  bench.receive(1, frame());
  expect(errors).toHaveLength(3);
  for (const error of errors) expect(error).toContain('rule 44');
  expect(bench.reached()).toEqual([2]);
});

for (const [what, freeze] of Object.entries({
  'a batch': (batch: Batch) => Object.freeze(batch),
  'the list of a batch': (batch: Batch) => Object.freeze(batch.packets),
  packets: (batch: Batch) => batch.packets.forEach((packet) => void Object.freeze(packet)),
  'a field of packets': (batch: Batch) =>
    batch.packets.forEach((packet) => void Object.defineProperty(packet, 'checksum', { writable: false })),
  'contexts of packets': (batch: Batch) =>
    batch.packets.forEach(({ attachment }) => void (attachment === null || Object.freeze(attachment))),
})) {
  for (const where of ['onIngress', 'onEgress', 'onIngressComplete', 'onEgressReturn', 'keeping'] as const) {
    test(`an extension that freezes ${what} in ${where} fails by name or harms nobody, and all goes on`, () => {
      const bench = fragile();
      const { factory } = extension('icy', 'filtering', (handle) => {
        const all = passing(handle);
        return {
          ...all,
          onIngressComplete: () => {},
          onEgressReturn: () => {},
          ...(where === 'keeping' ? { onIngress: freeze } : {}),
          ...(where === 'onIngressComplete' || where === 'onEgressReturn' ? { [where]: freeze } : {}),
          ...(where === 'onIngress' || where === 'onEgress'
            ? {
                [where]: (batch: Batch, flags: number) => {
                  freeze(batch);
                  all[where](batch, flags);
                },
              }
            : {}),
        };
      });
      bench.sw.enableExtension({ ...factory, isForeign: true }).result();
      bench.receive(1, frame(), frame());
      bench.receive(1, frame());
      if (bench.sw.extensions()[0].enabled) bench.sw.disableExtension('icy').result();
      expectHealthy(bench);
    });
  }
}

test('an extension that keeps packets is disabled after ten seconds, and its packets are given back', () => {
  const bench = fragile();
  bench.enable('keeper', 'filtering', () => ({ onIngress: (batch) => void keep(batch) }));
  bench.receive(1, frame(), frame());
  for (let second = 0; second < 8; second += 1) {
    bench.host.advance(1_000);
    bench.sw.tick();
  }
  expect(bench.sw.extensions()).toMatchObject([{ enabled: true, heldPackets: 2 }]);
  for (let second = 0; second < 4; second += 1) {
    bench.host.advance(1_000);
    bench.sw.tick();
  }
  expect(bench.sw.extensions()).toMatchObject([{ enabled: false }]);
  expect(bench.sw.extensions()[0].failure).toContain('kept 2 packets for 10 seconds');
  expect(bench.drops(1)).toEqual({ EXTENSION_FAILED: 2 });
  expectHealthy(bench);
});

test('one that holds each packet for a while only is left alone, however long that goes on', () => {
  const bench = fragile();
  let held: Batch = new Batch();
  bench.enable('delay', 'filtering', (handle) => ({
    onIngress: (batch) => {
      const before = held;
      held = keep(batch);
      if (before.count > 0) handle.sendIngress(before, 0);
    },
    pause: () => {},
  }));
  for (let round = 0; round < 20; round += 1) {
    bench.receive(1, frame());
    bench.host.advance(1_000);
    bench.sw.tick();
  }
  expect(bench.sw.extensions()).toMatchObject([{ enabled: true, heldPackets: 1 }]);
});

for (const [what, status, complaint] of [
  ['contains itself', cyclic(), 'does it contain itself?'],
  ['is a function', () => 1, 'a function, which is not JSON'],
  ['is a bigint', 10n, 'a bigint, which is not JSON'],
  ['is large', new Array(5e6).fill('x'), 'more than 50000 values'],
  ['is of large texts', ['x'.repeat(1 << 20)], 'more than 524288 characters'],
  ['has a getter that throws', Object.defineProperty({}, 'x', { get: trap, enumerable: true }), 'trap'],
] as const) {
  test(`a status that ${what} is refused by name, and the extension goes on`, () => {
    const bench = fragile();
    bench.enable('bad', 'filtering', (handle) => ({
      ...passing(handle),
      status: () => status as never,
      command: () => status as never,
    }));
    expect(() => bench.sw.extensionStatus('bad')).toThrow('extension bad: its status cannot be shown');
    expect(() => bench.sw.extensionStatus('bad')).toThrow(complaint);
    expect(() => bench.sw.extensionCommand('bad', 'x', null)).toThrow('its answer to x cannot be shown');
    expect(bench.events).toContainEqual(expect.objectContaining({ type: 'misuse', name: 'bad' }));
    expect(bench.sw.extensions()).toMatchObject([{ enabled: true }]);
    expectHealthy(bench);
  });
}

function cyclic(): unknown {
  const self: Record<string, unknown> = {};
  self.self = self;
  return self;
}

test('what is JSON is copied as it is; what JSON cannot hold is left out', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
      expect(plainJson(value)).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
  expect(plainJson({ a: undefined, b: Number.NaN, __proto__: null })).toEqual({ b: null });
  expect(Object.keys(plainJson(JSON.parse('{"__proto__": 1}')) as object)).toEqual(['__proto__']);
});

test('counters stay numbers, timers and counters have an end', () => {
  const bench = fragile();
  const handle = bench.enable('x', 'filtering', () => ({}));
  const counter = handle.counter('n') as { value: unknown };
  counter.value = 'text';
  expect(() => Object.defineProperty(counter, 'value', { get: trap })).toThrow(TypeError);
  expect(bench.sw.extensions()[0].counters).toEqual({ n: 0 });
  expect(() => {
    for (let i = 0; i < 10_000; i += 1) handle.counter(`c${i}`);
  }).toThrow('at most 4096 counters');
  expect(() => handle.setTimer(Number.NaN, () => {})).toThrow('a timer of NaN ms');
  expect(() => {
    for (let i = 0; i < 100_000; i += 1) handle.setTimer(1, () => {});
  }).toThrow('at most 65536 timers');
});

test('timers that are set past the handle end with the extension, too, and what they throw is its failure', () => {
  const bench = fragile();
  let ran = 0;
  const handle = bench.enable('x', 'filtering', () => ({}));
  handle.host.setTimer?.(10, () => {
    throw new Error('oops');
  });
  handle.host.setTimer?.(20, () => {
    ran += 1;
  });
  bench.host.advance(10);
  bench.host.advance(10);
  expect(bench.sw.extensions()[0].failure).toBe('timer: oops');
  expect(ran).toBe(0);
});

test('whoever watches the path and throws is disabled', () => {
  const bench = fragile();
  bench.enable('x', 'filtering', (handle) => {
    handle.shortcuts.watch(() => {
      throw new Error('oops');
    });
    return {};
  });
  expect(bench.sw.extensions()).toMatchObject([{ enabled: false, failure: 'watch: oops' }]);
  bench.port(3);
  expectHealthyFlood(bench);
});

function expectHealthyFlood(bench: Bench): void {
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2, 3]);
}

test('the record of who runs names the innermost extension that has not returned', () => {
  const seen: string[] = [];
  const names: string[] = [];
  const record = new Int32Array(1);
  const numberOf = (name: string): number => (names.includes(name) ? names.indexOf(name) + 1 : names.push(name));
  const host = { nowMs: () => 1, log: () => {}, entered: { record, numberOf } };
  const bench = new Bench({ verifyData: false, host });
  bench.port(1);
  bench.port(2);
  const look = (): void => void seen.push(names[record[0] - 1] ?? 'nobody');
  const make = (name: string, type: ExtensionType): ExtensionFactory =>
    extension(name, type, (handle) => ({
      onIngress: (batch, flags) => {
        look();
        handle.sendIngress(batch, flags);
        look();
      },
      status: () => {
        look();
        return null;
      },
    })).factory;
  bench.sw.enableExtension(make('below', 'filtering')).result();
  bench.sw.enableExtension(make('above', 'capturing')).result();
  bench.receive(1, frame());
  bench.sw.extensionStatus('below');
  look();
  expect(seen).toEqual(['above', 'below', 'below', 'above', 'below', 'nobody']);
});

test('whatever extensions do to the packets that they are handed, no packet is lost and traffic goes on', () => {
  const names = Object.keys(SABOTAGE);
  const step = fc.record({
    sabotage: fc.constantFrom(...names),
    type: fc.constantFrom<ExtensionType>('capturing', 'filtering'),
    upwards: fc.boolean(),
    packets: fc.integer({ min: 2, max: 6 }),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 6 }), (steps) => {
      const bench = fragile();
      steps.forEach(({ sabotage, type, upwards }, index) => {
        bench.enable(`bad${index}`, type, (handle) => ({
          [upwards ? 'onEgress' : 'onIngress']: (batch: Batch, flags: number) => {
            egress = upwards;
            return SABOTAGE[sabotage](handle, batch, flags);
          },
        }));
      });
      for (const { packets } of steps) bench.receive(1, ...Array.from({ length: packets }, () => frame()));
      for (let round = 0; round < steps.length; round += 1) bench.receive(1, frame(), frame());
      expectHealthy(bench);
    }),
    { numRuns: 60 },
  );
});

test('an extension that changes what all code shares is disabled, not one that is called meanwhile', () => {
  let damaged = false;
  const spoilt = (): string | null => {
    if (!damaged) return null;
    damaged = false;
    return 'it changed Array.prototype.push';
  };
  const host = {
    nowMs: () => 1,
    log: () => {},
    entered: { record: new Int32Array(1), numberOf: (name: string) => name.length, spoilt },
  };
  const bench = new Bench({ verifyData: false, host });
  bench.failuresExpected = true;
  bench.port(1);
  bench.port(2);
  bench.enable('good', 'filtering', passing);
  bench.enable('spoiler', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      damaged = true;
      handle.sendIngress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  const failed = bench.events.filter((event) => event.type === 'extension-failed');
  expect(failed).toMatchObject([{ name: 'spoiler', where: 'onIngress' }]);
  expect(bench.reached()).toEqual([2]);
});
