/** Extensions that fail, pause, are changed while running: no packet is lost, traffic goes on. */
import { expect, test } from 'vitest';
import type { Batch } from '../net/index.ts';
import type { ExtensionState, ExtensionType, OidRequest } from './index.ts';
import { Bench, batchOf, extension, frame, keep, passing } from './testing.ts';

/** A switch of two ports on which an extension may fail. */
function fragile(): Bench {
  const bench = new Bench();
  bench.failuresExpected = true;
  bench.port(1);
  bench.port(2);
  return bench;
}

function failures(bench: Bench): string[] {
  return bench.events.flatMap((event) =>
    event.type === 'extension-failed' ? [`${event.name} ${event.where} ${event.heldPackets}`] : [],
  );
}

for (const type of ['capturing', 'filtering', 'forwarding'] as const satisfies ExtensionType[]) {
  for (const handler of ['onIngress', 'onEgress', 'onIngressComplete', 'onEgressReturn'] as const) {
    test(`a ${type} extension that throws in ${handler} is disabled, every packet is given back, traffic goes on`, () => {
      const bench = fragile();
      bench.enable('bad', type, (handle) => ({
        ...passing(handle),
        onIngress: (batch, flags) => {
          if (type === 'forwarding') for (let i = 0; i < batch.count; i += 1) handle.policies.flood(batch.packets[i]);
          handle.sendIngress(batch, flags);
        },
        [handler]: () => {
          throw new Error('oops');
        },
      }));
      bench.receive(1, frame(), frame());
      expect(failures(bench)).toHaveLength(1);
      expect(failures(bench)[0]).toContain(`bad ${handler}`);
      expect(bench.outstanding).toBe(0);
      expect(bench.sw.counters.contextsInUse).toBe(0);
      const { received, delivered, dropped } = bench.sw.counters;
      expect(received).toBe(delivered + dropped);
      bench.nicOf(2).take();
      bench.receive(1, frame());
      expect(bench.reached()).toEqual([2]);
      expect(bench.sw.extensions()).toMatchObject([{ name: 'bad', enabled: false, state: 'Detached' }]);
      expect(bench.sw.extensions()[0].failure).toContain('oops');
    });
  }
}

test('packets in the hands of a capturing extension that fails go on, those of a filter are dropped by name', () => {
  const bench = fragile();
  const fail = (): never => {
    throw new Error('oops');
  };
  bench.enable('capture', 'capturing', () => ({ onIngress: fail }));
  bench.receive(1, frame(), frame());
  expect(bench.reached()).toEqual([2, 2]);
  bench.enable('filter', 'filtering', () => ({ onIngress: fail }));
  bench.receive(1, frame(), frame());
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(1)).toEqual({ EXTENSION_FAILED: 2 });
  expect(failures(bench)).toEqual(['capture onIngress 2', 'filter onIngress 2']);
});

test('an extension that fails halfway keeps what it had passed on and loses only what it held', () => {
  const bench = fragile();
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      handle.sendIngress(batchOf(batch.packets[1]), flags);
      throw new Error('oops');
    },
  }));
  bench.receive(1, frame(), frame(), frame());
  expect(bench.reached()).toEqual([2]);
  expect(bench.drops(1)).toEqual({ EXTENSION_FAILED: 2 });
  expect(bench.outstanding).toBe(0);
});

test('the failure of one extension does not reach the one that called it', () => {
  const bench = fragile();
  let survived = false;
  bench.enable('below', 'filtering', () => ({
    onIngress: () => {
      throw new Error('oops');
    },
  }));
  bench.enable('above', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      handle.sendIngress(batch, flags);
      survived = true;
    },
  }));
  bench.receive(1, frame());
  expect(survived).toBe(true);
  expect(failures(bench)).toEqual(['below onIngress 1']);
});

test('misuse that an extension does not catch disables it, and the error names the rule', () => {
  const bench = fragile();
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch) => handle.addDestination(batch.packets[0], 2, 0, 0),
  }));
  bench.receive(1, frame());
  expect(bench.sw.extensions()[0].failure).toContain('rule 5');
  expect(bench.outstanding).toBe(0);
});

test('packets that a failed extension had kept earlier are given back, and its timers do not run any more', () => {
  const bench = fragile();
  let ran = false;
  let fail = false;
  bench.enable('hold', 'filtering', (handle) => ({
    onIngress: (batch) => {
      if (fail) throw new Error('oops');
      keep(batch);
      handle.setTimer(10, () => {
        ran = true;
      });
    },
  }));
  bench.receive(1, frame(), frame());
  expect(bench.sw.counters.contextsInUse).toBe(2);
  fail = true;
  bench.receive(1, frame());
  expect(bench.outstanding).toBe(0);
  expect(failures(bench)).toEqual(['hold onIngress 3']);
  bench.host.advance(20);
  expect(ran).toBe(false);
});

test('a timer, a status, a command or an OID handler that throws is handled in the same way', () => {
  const bench = fragile();
  bench.enable('timer', 'filtering', (handle) => ({
    restart: () => {
      handle.setTimer(5, () => {
        throw new Error('late');
      });
    },
  }));
  bench.host.advance(10);
  bench.enable('oid', 'filtering', () => ({
    onOid: () => {
      throw new Error('oid');
    },
  }));
  bench.sw.updatePort(1, { name: 'renamed' }).result();
  bench.enable('status', 'filtering', () => ({
    status: () => {
      throw new Error('status');
    },
  }));
  expect(() => bench.sw.extensionStatus('status')).toThrow('failed');
  bench.enable('command', 'filtering', () => ({
    command: () => {
      throw new Error('unknown word');
    },
  }));
  expect(() => bench.sw.extensionCommand('command', 'x', null)).toThrow('unknown word');
  expect(failures(bench)).toEqual(['timer timer 0', 'oid onOid PORT_UPDATED 0', 'status status 0']);
  expect(bench.sw.extensions()[0]).toMatchObject({ name: 'command', enabled: true });
});

test('an OID that a failed extension pended goes on', () => {
  const bench = fragile();
  bench.enable('slow', 'filtering', () => ({
    onOid: () => 'pending',
    onIngress: () => {
      throw new Error('oops');
    },
  }));
  const renamed = bench.sw.updatePort(1, { name: 'renamed' });
  expect(renamed.state).toBe('pending');
  bench.receive(1, frame());
  expect(renamed.state).toBe('done');
});

test('states go Attaching, Paused, Restarting, Running, and back over Pausing and Paused to Detached', () => {
  const bench = fragile();
  const calls: string[] = [];
  bench.enable('x', 'filtering', () => ({
    attach: () => calls.push('attach'),
    restart: () => calls.push('restart'),
    pause: () => calls.push('pause'),
    detach: () => calls.push('detach'),
  }));
  bench.sw.disableExtension('x').result();
  const states = bench.events.flatMap((event): ExtensionState[] => (event.type === 'extension' ? [event.state] : []));
  expect(states).toEqual(['Attaching', 'Paused', 'Restarting', 'Running', 'Pausing', 'Paused', 'Detached']);
  expect(calls).toEqual(['attach', 'restart', 'pause', 'detach']);
});

test('a pause waits for packets; meanwhile arriving ones are a named drop', () => {
  const bench = fragile();
  const held: Batch[] = [];
  const handle = bench.enable('hold', 'filtering', () => ({ onIngress: (batch) => held.push(keep(batch)) }));
  bench.receive(1, frame());
  const moved = bench.sw.moveExtension('hold', 0);
  expect(moved.state).toBe('pending');
  bench.receive(1, frame());
  expect(bench.drops(1)).toEqual({ STACK_PAUSED: 1 });
  for (const batch of held.splice(0)) handle.sendIngress(batch, 0);
  expect(moved.state).toBe('done');
  expect(bench.reached()).toEqual([2]);
  bench.receive(1, frame());
  expect(held).toHaveLength(1);
});

test('an extension that does not let go of its packets after a pause is taken out', () => {
  const bench = fragile();
  const pended: OidRequest[] = [];
  bench.enable('stuck', 'filtering', () => ({
    onIngress: (batch) => {
      keep(batch);
    },
    onOid: (request) => {
      pended.push(request);
      return 'pending';
    },
  }));
  bench.receive(1, frame());
  const renamed = bench.sw.updatePort(1, { name: 'renamed' });
  const enabled = bench.sw.enableExtension(extension('new', 'filtering', () => ({})).factory);
  bench.host.advance(4_000);
  bench.sw.tick();
  expect(enabled.state).toBe('pending');
  bench.host.advance(2_000);
  bench.sw.tick();
  expect([enabled.state, renamed.state]).toEqual(['done', 'done']);
  expect(failures(bench)).toEqual(['stuck pause 1']);
  expect(bench.outstanding).toBe(0);
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
});

test('a failed extension can be enabled again', () => {
  const bench = fragile();
  let fail = true;
  const made = extension('x', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      if (fail) throw new Error('oops');
      handle.sendIngress(batch, flags);
    },
  }));
  bench.sw.enableExtension(made.factory).result();
  bench.receive(1, frame());
  fail = false;
  bench.sw.enableExtension(made.factory).result();
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
  expect(bench.sw.extensions()).toMatchObject([{ name: 'x', enabled: true, state: 'Running', failure: null }]);
});

test('a new configuration is checked before it is put in force, in place or with a new instance', () => {
  const bench = fragile();
  const seen: unknown[] = [];
  const parseConfiguration = (value: unknown): number => {
    if (typeof value !== 'number') throw new TypeError('rate: must be a number');
    return value;
  };
  const make = (name: string, inPlace: boolean) => ({
    descriptor: { name, type: 'filtering', version: '1' } as const,
    parseConfiguration,
    create: (_handle: unknown, configuration: unknown) => {
      seen.push(`${name} made with ${configuration}`);
      return inPlace ? { reconfigure: (next: unknown) => seen.push(`${name} changed to ${next}`) } : {};
    },
  });
  expect(() => bench.sw.enableExtension(make('a', true), 'x').result()).toThrow('rate: must be a number');
  bench.sw.enableExtension(make('a', true), 1).result();
  bench.sw.enableExtension(make('b', false), 2).result();
  expect(() => bench.sw.reconfigureExtension('a', 'x').result()).toThrow('rate: must be a number');
  bench.sw.reconfigureExtension('a', 3).result();
  bench.sw.reconfigureExtension('b', 4).result();
  expect(seen).toEqual(['a made with 1', 'b made with 2', 'a changed to 3', 'b made with 4']);
  expect(bench.sw.extensions().map((info) => info.name)).toEqual(['b', 'a']);
});

test('closing disables extensions and removes ports; afterwards nothing is accepted', () => {
  const bench = fragile();
  let detached = false;
  bench.enable('x', 'filtering', () => ({
    detach: () => {
      detached = true;
    },
  }));
  expect(bench.sw.close().state).toBe('done');
  expect(detached).toBe(true);
  expect(bench.sw.ports()).toEqual([]);
  expect(() => bench.sw.createPort({ name: 'x' }).result()).toThrow('closed');
});
