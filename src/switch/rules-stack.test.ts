/** Rules 1 to 9: the stack, who may do what, and what the switch does by itself. */
import { expect, test } from 'vitest';
import { contextOf, DropReason, PacketFlag } from './index.ts';
import { Bench, batchOf, extension, frame, mac, passing } from './testing.ts';

test('rule 1: packets meet capturing, then filtering, then forwarding, the most recently installed of a type first', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const seen: string[] = [];
  const watcher = (name: string, type: 'capturing' | 'filtering') =>
    bench.enable(name, type, (handle) => ({
      onIngress: (batch, flags) => {
        seen.push(`${name} down`);
        handle.sendIngress(batch, flags);
      },
      onEgress: (batch, flags) => {
        seen.push(`${name} up`);
        handle.indicateEgress(batch, flags);
      },
    }));
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => {
      seen.push('forward down');
      for (let i = 0; i < batch.count; i += 1) handle.addDestination(batch.packets[i], 2, 0, 0);
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      seen.push('forward up');
      handle.indicateEgress(batch, flags);
    },
  }));
  watcher('f1', 'filtering');
  watcher('c1', 'capturing');
  watcher('f2', 'filtering');
  watcher('c2', 'capturing');
  bench.receive(1, frame());
  const down = ['c2', 'c1', 'f2', 'f1', 'forward'];
  expect(seen).toEqual([...down.map((name) => `${name} down`), ...down.reverse().map((name) => `${name} up`)]);
  expect(bench.reached()).toEqual([2]);
});

test('rule 1: the order within a type can be changed while packets flow', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const seen: string[] = [];
  for (const name of ['a', 'b', 'c']) {
    bench.enable(name, 'filtering', (handle) => ({
      onIngress: (batch, flags) => {
        seen.push(name);
        handle.sendIngress(batch, flags);
      },
    }));
  }
  bench.sw.moveExtension('c', 2).result();
  bench.receive(1, frame());
  expect(seen).toEqual(['b', 'a', 'c']);
  expect(bench.sw.extensions().map((info) => info.name)).toEqual(['b', 'a', 'c']);
});

test('rule 2: a second forwarding extension is refused, others are not', () => {
  const bench = new Bench();
  bench.enable('one', 'forwarding', () => ({}));
  expect(() => bench.enable('two', 'forwarding', () => ({}))).toThrow('rule 2');
  bench.enable('c1', 'capturing', () => ({}));
  bench.enable('c2', 'capturing', () => ({}));
  bench.sw.disableExtension('one').result();
  bench.enable('two', 'forwarding', () => ({}));
  expect(bench.sw.extensions().map((info) => info.name)).toEqual(['c2', 'c1', 'two']);
});

test('rule 3: traffic goes ingress, edge, egress; completion runs in reverse, after the NICs were flushed', () => {
  const bench = new Bench();
  bench.port(1);
  const out = bench.port(2);
  const seen: string[] = [];
  const layer = (name: string, type: 'capturing' | 'filtering' | 'forwarding') =>
    bench.enable(name, type, (handle) => ({
      onIngress: (batch, flags) => {
        seen.push(`${name} ingress`);
        if (type === 'forwarding') handle.policies.flood(batch.packets[0]);
        handle.sendIngress(batch, flags);
      },
      onEgress: (batch, flags) => {
        seen.push(`${name} egress`);
        handle.indicateEgress(batch, flags);
      },
      onEgressReturn: () => seen.push(`${name} return ${out.flushes}`),
      onIngressComplete: () => seen.push(`${name} complete ${out.flushes}`),
    }));
  layer('forward', 'forwarding');
  layer('filter', 'filtering');
  layer('capture', 'capturing');
  bench.receive(1, frame());
  expect(seen).toEqual([
    'capture ingress',
    'filter ingress',
    'forward ingress',
    'forward egress',
    'filter egress',
    'capture egress',
    'capture return 1',
    'filter return 1',
    'forward return 1',
    'forward complete 1',
    'filter complete 1',
    'capture complete 1',
  ]);
  expect(bench.outstanding).toBe(0);
});

test('rule 3: a packet that a filter drops completes above it only', () => {
  const bench = new Bench();
  bench.port(1);
  const seen: string[] = [];
  bench.enable('forward', 'forwarding', () => ({ onIngressComplete: () => seen.push('forward') }));
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch) => handle.dropIngress(batch, 1, DropReason.EXTENSION_FILTER, true),
    onIngressComplete: () => seen.push('filter'),
  }));
  bench.enable('capture', 'capturing', (handle) => ({
    ...passing(handle),
    onIngressComplete: () => seen.push('capture'),
  }));
  bench.receive(1, frame());
  expect(seen).toEqual(['capture']);
});

test('rule 4: a capturing extension does not drop, clone, add, exclude, report or change', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const refused: string[] = [];
  const attempt = (call: () => unknown): void => {
    try {
      call();
    } catch (error) {
      refused.push(String(error));
    }
  };
  bench.enable('capture', 'capturing', (handle) => ({
    onIngress: (batch, flags) => {
      const [packet] = batch.packets;
      attempt(() => handle.completeIngress(batch));
      attempt(() => handle.clone(packet));
      attempt(() => handle.copy(packet));
      attempt(() => handle.addDestination(packet, 2, 0, 0));
      attempt(() => handle.reportFiltered(batch, 1, DropReason.EXTENSION_FILTER, true));
      packet.bytes[packet.offset + 20] ^= 0xff;
      attempt(() => handle.sendIngress(batch, flags));
      packet.bytes[packet.offset + 20] ^= 0xff;
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      attempt(() => handle.excludeDestination(batch.packets[0], 0, DropReason.EXTENSION_FILTER));
      attempt(() => handle.injectEgress(batch, flags));
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(refused).toHaveLength(8);
  for (const text of refused) expect(text).toContain('rule 4');
  expect(bench.reached()).toEqual([2]);
});

test('rule 4: a capturing extension originates on ingress', () => {
  const bench = new Bench();
  bench.port(1);
  const handle = bench.enable('capture', 'capturing', () => ({}));
  const packet = bench.packet(frame());
  expect(handle.allocateContext(packet)).toBe(true);
  handle.injectIngress(batchOf(packet), 0);
  expect(bench.reached()).toEqual([1]);
  expect(bench.outstanding).toBe(0);
});

test('rule 5: a filter does not add destinations, and excludes on egress only', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.port(3);
  const refused: string[] = [];
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      const [packet] = batch.packets;
      for (const call of [
        () => handle.addDestination(packet, 2, 0, 0),
        () => handle.growDestinations(packet, 1),
        () => handle.policies.flood(packet),
        () => handle.excludeDestination(packet, 0, DropReason.EXTENSION_FILTER),
      ]) {
        expect(call).toThrow('rule 5');
        refused.push('refused');
      }
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      const context = contextOf(batch.packets[0]);
      for (let i = 0; i < context.numDestinations; i += 1) {
        if (context.destinationPorts[i] === 3)
          handle.excludeDestination(batch.packets[0], i, DropReason.EXTENSION_FILTER);
      }
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(refused).toHaveLength(4);
  expect(bench.reached()).toEqual([2]);
  expect(bench.drops(3)).toEqual({ EXTENSION_FILTER: 1 });
});

test('rule 6: a forwarding extension adds on ingress and excludes on egress, not the other way round', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.port(3);
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => {
      const [packet] = batch.packets;
      handle.addDestination(packet, 2, 0, 0);
      handle.addDestination(packet, 3, 0, 0);
      expect(() => handle.excludeDestination(packet, 0, DropReason.EXTENSION_OTHER)).toThrow('rule 6');
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      handle.excludeDestination(batch.packets[0], 0, DropReason.EXTENSION_OTHER);
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([3]);
});

test('rule 7: without a forwarding extension the switch learns addresses and floods what it does not know', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.receive(1, frame({ from: mac(1), to: mac(2) }));
  expect(bench.reached()).toEqual([2, 3]);
  bench.receive(2, frame({ from: mac(2), to: mac(1) }));
  expect(bench.reached()).toEqual([1]);
  bench.receive(1, frame({ from: mac(1), to: mac(2) }));
  expect(bench.reached()).toEqual([2]);
  bench.receive(2, frame({ from: mac(3), to: mac(2) }));
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(2)).toEqual({ DESTINATION_IS_SOURCE: 1 });
});

test('rule 7: learned addresses age', () => {
  const bench = new Bench({ macAgeingSeconds: 10 });
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.receive(2, frame({ from: mac(2) }));
  bench.reached();
  bench.host.advance(10_000);
  bench.receive(1, frame({ to: mac(2) }));
  expect(bench.reached()).toEqual([2]);
  bench.host.advance(11_000);
  bench.receive(1, frame({ to: mac(2) }));
  expect(bench.reached()).toEqual([2, 3]);
});

test('rule 7: the switch enforces the standard policies itself', () => {
  const bench = new Bench();
  bench.port(1, {}, { macAddress: mac(1) });
  bench.port(2);
  bench.sw.setPortProperty(1, { type: 'security' }).result();
  bench.receive(1, frame({ from: mac(9) }));
  expect(bench.drops(1)).toEqual({ MAC_SPOOFED: 1 });
  bench.receive(1, frame({ from: mac(1) }));
  expect(bench.reached()).toEqual([2]);
});

test('rule 8: built-in ingress policy runs between filters and forwarding, built-in egress policy before filters', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.sw.setPortProperty(1, {
    type: 'acl',
    rules: [{ direction: 'in', action: 'deny', localMac: '02:00:00:00:00:09' }],
  });
  bench.sw.setPortProperty(3, { type: 'acl', rules: [{ direction: 'out', action: 'deny' }] });
  const seen: string[] = [];
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => {
      seen.push(`forward ${batch.count}`);
      for (let i = 0; i < batch.count; i += 1) handle.policies.flood(batch.packets[i]);
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      seen.push(`forward sees port 3 ${contextOf(batch.packets[0]).isExcluded(1) ? 'excluded' : 'included'}`);
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      seen.push(`filter ${batch.count}`);
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      seen.push(`filter sees port 3 ${contextOf(batch.packets[0]).isExcluded(1) ? 'excluded' : 'included'}`);
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame(), frame({ from: mac(9) }));
  expect(seen).toEqual(['filter 2', 'forward 1', 'forward sees port 3 included', 'filter sees port 3 excluded']);
  expect(bench.reached()).toEqual([2]);
  expect(bench.drops(1)).toEqual({ ACL_DENIED: 1 });
  expect(bench.drops(3)).toEqual({ ACL_DENIED: 1 });
});

test('rule 9: the edge adds a monitor port once, and not when it is a destination already', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3, 4]) bench.port(portId);
  bench.sw.setPortProperty(2, { type: 'monitor', mode: 'source' });
  bench.sw.setPortProperty(4, { type: 'monitor', mode: 'destination' });
  bench.receive(2, frame({ from: mac(2) }));
  expect(bench.reached()).toEqual([1, 3, 4]);
  bench.receive(1, frame({ from: mac(1), to: mac(2) }));
  expect(bench.reached()).toEqual([2, 4]);
  bench.receive(3, frame({ from: mac(3), to: mac(1) }));
  expect(bench.reached()).toEqual([1]);
});

test('rule 9: the mirrored copy goes out as it came in', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const monitor = bench.port(3);
  bench.sw.setPortProperty(1, { type: 'monitor', mode: 'source' });
  bench.sw.setPortProperty(2, { type: 'vlan', mode: 'access', vlanId: 5 });
  bench.sw.setPortProperty(3, { type: 'vlan', mode: 'access', vlanId: 9 });
  bench.sw.setPortProperty(3, { type: 'monitor', mode: 'destination' });
  bench.receive(1, frame({ tags: [5] }));
  expect(monitor.take().map((sent) => sent.tag)).toEqual([0]);
});

test('rule 1: a handler that is left out is bypassed, and one list reaches the next handler whole', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.enable('silent', 'filtering', () => ({}));
  const counts: number[] = [];
  bench.enable('count', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      counts.push(batch.count, flags & PacketFlag.SINGLE_SOURCE);
      handle.sendIngress(batch, flags);
    },
  }));
  bench.receive(1, frame(), frame(), frame());
  expect(counts).toEqual([3, 1]);
  expect(bench.reached()).toEqual([2, 2, 2]);
});

test('an extension whose attach throws is not enabled, and traffic goes on', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const broken = extension('broken', 'filtering', () => ({
    attach: () => {
      throw new Error('no licence');
    },
  }));
  expect(() => bench.sw.enableExtension(broken.factory).result()).toThrow('no licence');
  expect(bench.sw.extensions()).toEqual([]);
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
});
