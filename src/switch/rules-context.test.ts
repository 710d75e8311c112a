/** Rules 10 to 25: forwarding context, destinations, reports, clones, flags, native forwarding. */
import { expect, test } from 'vitest';
import type { Batch, Packet } from '../net/index.ts';
import { contextOf, DestinationFlag, DropReason, type ExtensionHandle, PacketFlag } from './index.ts';
import { Bench, batchOf, frame, ipv4, keep, mac, passing } from './testing.ts';

/** A switch of four ports with a forwarding extension that does what a test says to each list. */
function forwarding(onIngress: (batch: Batch, flags: number, handle: ExtensionHandle) => void): Bench {
  const bench = new Bench();
  for (const portId of [1, 2, 3, 4]) bench.port(portId);
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => onIngress(batch, flags, handle),
  }));
  return bench;
}

/** An own packet of the extension with a frame in it. */
function originate(handle: ExtensionHandle, bytes: Uint8Array): Packet {
  const packet = handle.allocate();
  if (packet === null) throw new Error('no packet');
  packet.bytes.set(bytes, packet.offset);
  packet.length = bytes.length;
  return packet;
}

test('rule 10: source and destination calls need a context, and the source comes before destinations', () => {
  const bench = forwarding(() => {});
  const handle = bench.enable('capture', 'capturing', () => ({}));
  const packet = bench.packet(frame());
  expect(() => handle.context(packet)).toThrow('rule 10');
  expect(() => handle.setSource(packet, 1, 0)).toThrow('rule 10');
  expect(() => handle.addDestination(packet, 1, 0, 0)).toThrow('rule 10');
  expect(() => handle.injectIngress(batchOf(packet), 0)).toThrow('rule 10');
  handle.allocateContext(packet);
  expect(() => handle.allocateContext(packet)).toThrow('rule 10');
  handle.freeContext(packet);
  expect(packet.attachment).toBeNull();
  expect(packet.references).toBe(1);
  packet.release();
  expect(bench.sw.counters.contextsInUse).toBe(0);
});

test('rule 10: the source cannot be set once there are destinations; the context goes before the packet', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const handle = bench.enable('forward', 'forwarding', () => ({}));
  const packet = originate(handle, frame());
  handle.allocateContext(packet);
  handle.addDestination(packet, 2, 0, 0);
  expect(() => handle.setSource(packet, 1, 0)).toThrow('rule 10');
  handle.injectIngress(batchOf(packet), 0);
  expect(bench.reached()).toEqual([2]);
  expect(packet.attachment).toBeNull();
  expect(packet.references).toBe(0);
});

test('rule 10: when no context is free, allocateContext says so and received packets are dropped by name', () => {
  const bench = new Bench({ maxContexts: 2 });
  bench.port(1);
  const kept: Batch[] = [];
  const handle = bench.enable('hold', 'filtering', () => ({ onIngress: (batch) => kept.push(keep(batch)) }));
  bench.receive(1, frame(), frame(), frame());
  expect(bench.drops(1)).toEqual({ NO_CONTEXT: 1 });
  const packet = bench.packet(frame());
  expect(handle.allocateContext(packet)).toBe(false);
  packet.release();
  for (const batch of kept) handle.dropIngress(batch, 1, DropReason.EXTENSION_FILTER, true);
  expect(bench.outstanding).toBe(0);
});

test('rule 11: a new context comes from the default port, which is trusted', () => {
  const bench = new Bench();
  bench.port(1, {}, { macAddress: mac(1) });
  bench.port(2);
  bench.sw.setPortProperty(1, { type: 'security' }).result();
  const handle = bench.enable('capture', 'capturing', () => ({}));
  const trusted = bench.packet(frame({ from: mac(77) }));
  handle.allocateContext(trusted);
  expect(handle.context(trusted).sourcePortId).toBe(0);
  handle.injectIngress(batchOf(trusted), 0);
  expect(bench.reached()).toEqual([1, 2]);
  const spoofed = bench.packet(frame({ from: mac(77) }));
  handle.allocateContext(spoofed);
  handle.setSource(spoofed, 1, 0);
  handle.injectIngress(batchOf(spoofed), 0);
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(1)).toEqual({ MAC_SPOOFED: 1 });
});

test('rule 11: only the own packets of an extension change their source, and only to a connected NIC', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const handle = bench.enable('filter', 'filtering', (own) => ({
    onIngress: (batch, flags) => {
      expect(() => own.setSource(batch.packets[0], 2, 0)).toThrow('rule 11');
      expect(() => own.injectIngress(batch, flags)).toThrow('rule 11');
      own.sendIngress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  bench.sw.disconnectNic(2).result();
  const packet = bench.packet(frame());
  handle.allocateContext(packet);
  expect(() => handle.setSource(packet, 2, 0)).toThrow('rule 11');
  expect(() => handle.setSource(packet, 9, 0)).toThrow('rule 11');
  handle.setSource(packet, 1, 0);
  expect(handle.context(packet).sourcePortId).toBe(1);
  handle.completeIngress(batchOf(packet));
  expect(bench.outstanding).toBe(0);
});

test('rule 12: one destination is added without an update; several are grown, filled and committed', () => {
  const bench = forwarding((batch, flags, handle) => {
    const [packet] = batch.packets;
    const context = contextOf(packet);
    handle.addDestination(packet, 2, 0, 0);
    expect(context.numDestinations).toBe(1);
    const wanted = context.numAvailable + 3;
    expect(handle.growDestinations(packet, wanted)).toBe(true);
    expect(context.numAvailable).toBeGreaterThanOrEqual(wanted);
    handle.fillDestination(packet, 1, 3, 0, 0);
    handle.fillDestination(packet, 2, 4, 0, DestinationFlag.PRESERVE_VLAN);
    expect(context.numDestinations).toBe(1);
    handle.updateDestinations(packet, 2);
    expect([...context.destinationPorts.subarray(0, context.numDestinations)]).toEqual([2, 3, 4]);
    expect(context.destinationFlags[2]).toBe(DestinationFlag.PRESERVE_VLAN);
    handle.sendIngress(batch, flags);
  });
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2, 3, 4]);
});

test('rule 12: filling outside the array and committing more than is there are refused; growing without end is RESOURCES', () => {
  const bench = forwarding((batch, flags, handle) => {
    const [packet] = batch.packets;
    const { numAvailable } = contextOf(packet);
    expect(() => handle.fillDestination(packet, numAvailable, 2, 0, 0)).toThrow('rule 12');
    expect(() => handle.updateDestinations(packet, numAvailable + 1)).toThrow('rule 12');
    expect(() => handle.updateDestinations(packet, 0)).toThrow('rule 12');
    expect(() => handle.growDestinations(packet, 0)).toThrow('rule 12');
    expect(handle.growDestinations(packet, 1_000_000)).toBe(false);
    handle.addDestination(packet, 2, 0, 0);
    handle.sendIngress(batch, flags);
  });
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
});

test('rule 13: a committed destination cannot be overwritten, and is excluded once', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => {
      const [packet] = batch.packets;
      handle.addDestination(packet, 2, 0, 0);
      handle.addDestination(packet, 3, 0, 0);
      expect(() => handle.fillDestination(packet, 0, 3, 0, 0)).toThrow('rule 13');
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      const [packet] = batch.packets;
      handle.excludeDestination(packet, 0, DropReason.EXTENSION_OTHER);
      expect(() => handle.excludeDestination(packet, 0, DropReason.EXTENSION_OTHER)).toThrow('rule 13');
      expect(() => handle.excludeDestination(packet, 7, DropReason.EXTENSION_OTHER)).toThrow('rule 13');
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([3]);
  expect(bench.drops(2)).toEqual({ EXTENSION_OTHER: 1 });
});

test('rule 14: a destination is a connected NIC; its index is 0 save on the external port', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.sw.createPort({ portId: 5, name: 'bare' }).result();
  bench.port(9, { type: 'external' });
  const second = bench.nic(9, 2);
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => {
      const [packet] = batch.packets;
      expect(() => handle.addDestination(packet, 77, 0, 0)).toThrow('rule 14');
      expect(() => handle.addDestination(packet, 0, 0, 0)).toThrow('rule 14');
      expect(() => handle.addDestination(packet, 5, 0, 0)).toThrow('rule 14');
      expect(() => handle.addDestination(packet, 2, 1, 0)).toThrow('rule 14');
      expect(() => handle.addDestination(packet, 9, 3, 0)).toThrow('rule 14');
      handle.addDestination(packet, 9, 2, 0);
      handle.sendIngress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(second.take()).toHaveLength(1);
  expect(bench.reached()).toEqual([]);
});

test('rule 14: committed destinations pin port and NIC until the packet completes', () => {
  const bench = new Bench();
  bench.port(1);
  const out = bench.port(2);
  const held: Batch[] = [];
  const handle = bench.enable('hold', 'filtering', () => ({ onEgress: (batch) => held.push(keep(batch)) }));
  bench.receive(1, frame());
  const removed = bench.sw.removePort(2);
  expect(removed.state).toBe('pending');
  expect(bench.sw.port(2).nics[0].state).toBe('disconnected');
  for (const batch of held) handle.indicateEgress(batch, 0);
  expect(out.take()).toHaveLength(1);
  expect(removed.state).toBe('done');
  expect(bench.sw.findPort('p2')).toBeNull();
});

test('rule 15: no destination is a named drop at the source; a packet whose copies are all excluded is counted where they are, once', () => {
  const bench = forwarding((batch, flags, handle) => handle.sendIngress(batch, flags));
  bench.receive(1, frame());
  expect(bench.drops(1)).toEqual({ NO_DESTINATION: 1 });
  const other = new Bench();
  other.port(1);
  other.port(2);
  other.enable('filter', 'filtering', (handle) => ({
    onEgress: (batch, flags) => {
      handle.excludeDestination(batch.packets[0], 0, DropReason.EXTENSION_FILTER);
      handle.indicateEgress(batch, flags);
    },
  }));
  other.receive(1, frame());
  expect(other.reached()).toEqual([]);
  expect(other.drops(1)).toEqual({});
  expect(other.drops(2)).toEqual({ EXTENSION_FILTER: 1 });
  expect(other.sw.counters).toMatchObject({ received: 1, dropped: 1, copiesDropped: 0 });
});

test('rule 16: filtered packets are reported by one port and one reason, and then cannot go on', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      const bad = batchOf(batch.packets[0], batch.packets[2]);
      const good = batchOf(batch.packets[1]);
      expect(() => handle.reportFiltered(bad, 2, DropReason.EXTENSION_FILTER, true)).toThrow('rule 16');
      expect(() => handle.reportFiltered(bad, 1, 999, true)).toThrow('rule 16');
      expect(() => handle.reportFiltered(bad, 999, DropReason.EXTENSION_FILTER, false)).toThrow('rule 16');
      handle.reportFiltered(bad, 1, DropReason.EXTENSION_FILTER, true);
      expect(() => handle.reportFiltered(bad, 1, DropReason.EXTENSION_FILTER, true)).toThrow('rule 16');
      expect(() => handle.sendIngress(bad, flags)).toThrow('rule 16');
      handle.sendIngress(good, flags);
      handle.completeIngress(bad);
      expect(bad.count).toBe(0);
    },
  }));
  bench.receive(1, frame(), frame(), frame());
  expect(bench.drops(1)).toEqual({ EXTENSION_FILTER: 2 });
  expect(bench.reached()).toEqual([2]);
  expect(bench.outstanding).toBe(0);
});

test('rule 16: a packet that is ended without a report still has a named reason', () => {
  const bench = new Bench();
  bench.port(1);
  bench.enable('filter', 'filtering', (handle) => ({ onIngress: (batch) => handle.completeIngress(batch) }));
  bench.receive(1, frame());
  expect(bench.drops(1)).toEqual({ EXTENSION_UNREPORTED: 1 });
});

test('rule 16: an extension registers reasons of its own', () => {
  const bench = new Bench();
  bench.port(1);
  bench.enable('filter', 'filtering', (handle) => {
    const reason = handle.registerDropReason('LUNCH', 'Nobody works at noon.');
    expect(handle.registerDropReason('LUNCH', 'Nobody works at noon.')).toBe(reason);
    return { onIngress: (batch) => handle.dropIngress(batch, 1, reason, true) };
  });
  bench.receive(1, frame());
  expect(bench.sw.drops(1)).toMatchObject([{ name: 'filter:LUNCH', text: 'Nobody works at noon.', packets: 1 }]);
});

test('rule 16: a reason that is registered again with another text has that text, and its number', () => {
  const bench = new Bench();
  bench.port(1);
  const codes: number[] = [];
  for (const text of ['Nobody works at noon.', 'Nobody works before one.']) {
    bench.enable('filter', 'filtering', (handle) => {
      const reason = handle.registerDropReason('LUNCH', text);
      codes.push(reason);
      return { onIngress: (batch) => handle.dropIngress(batch, 1, reason, true) };
    });
    bench.receive(1, frame());
    bench.sw.disableExtension('filter');
  }
  expect(codes[1]).toBe(codes[0]);
  expect(bench.sw.drops(1)).toMatchObject([{ name: 'filter:LUNCH', text: 'Nobody works before one.', packets: 2 }]);
});

test('rule 17: copied information keeps destinations only when asked to, and not for a filter towards ingress', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  const copies: number[] = [];
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      const own = originate(handle, frame());
      handle.allocateContext(own);
      expect(() => handle.copyInfo(own, batch.packets[0], true)).toThrow('rule 17');
      expect(() => handle.copyInfo(batch.packets[0], own, false)).toThrow('rule 17');
      handle.copyInfo(own, batch.packets[0], false);
      expect(contextOf(own).sourcePortId).toBe(1);
      handle.completeIngress(batchOf(own));
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      const own = originate(handle, frame());
      handle.allocateContext(own);
      handle.copyInfo(own, batch.packets[0], true);
      copies.push(contextOf(own).numDestinations);
      handle.completeIngress(batchOf(own));
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(copies).toEqual([2]);
  expect(bench.reached()).toEqual([2, 3]);
  expect(bench.sw.counters.contextsInUse).toBe(0);
});

test('rule 18: on egress destinations are not added and data does not change', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => {
      handle.addDestination(batch.packets[0], 2, 0, 0);
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      const [packet] = batch.packets;
      expect(() => handle.addDestination(packet, 3, 0, 0)).toThrow('rule 18');
      expect(() => handle.fillDestination(packet, 1, 3, 0, 0)).toThrow('rule 18');
      expect(handle.isWritable(packet)).toBe(false);
      packet.bytes[packet.offset + 30] ^= 1;
      expect(() => handle.indicateEgress(batch, flags)).toThrow('rule 18');
      packet.bytes[packet.offset + 30] ^= 1;
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
});

test('rule 18: an egress clone goes out when data, source and destinations are those of its parent', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.enable('filter', 'filtering', (handle) => ({
    onEgress: (batch, flags) => {
      const [packet] = batch.packets;
      const clone = handle.clone(packet);
      const changed = handle.copy(packet);
      if (clone === null || changed === null) throw new Error('no packets');
      expect(() => handle.injectEgress(batch, flags)).toThrow('rule 11');
      expect(() => handle.injectEgress(batchOf(changed), flags)).toThrow('rule 18');
      const shorter = handle.clone(packet);
      if (shorter === null) throw new Error('no packets');
      shorter.length -= 1;
      expect(() => handle.injectEgress(batchOf(shorter), flags)).toThrow('rule 18');
      handle.injectEgress(batchOf(clone), flags);
      handle.completeIngress(batchOf(changed, shorter));
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2, 2]);
  expect(bench.outstanding).toBe(0);
});

test('rule 19: a packet stays until its clones have completed, whoever ends it first', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const clones: Packet[] = [];
  const handle = bench.enable('filter', 'filtering', (own) => ({
    onIngress: (batch) => {
      const clone = own.clone(batch.packets[0]);
      if (clone === null) throw new Error('no packets');
      clones.push(clone);
      expect(() => own.freeContext(batch.packets[0])).toThrow('rule 10');
      own.completeIngress(batch);
    },
  }));
  bench.receive(1, frame({ payload: [1, 2, 3] }));
  expect(bench.outstanding).toBe(1);
  expect(bench.sw.counters).toMatchObject({ consumed: 1, contextsInUse: 2 });
  handle.injectIngress(batchOf(...clones), 0);
  expect(bench.nicOf(2).take()[0].frame.subarray(14, 17)).toEqual(Uint8Array.of(1, 2, 3));
  expect(bench.outstanding).toBe(0);
  expect(bench.sw.counters.contextsInUse).toBe(0);
});

test("rule 19: copied data is the extension's own to write; shared data is not", () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch) => {
      const [packet] = batch.packets;
      expect(handle.isWritable(packet)).toBe(true);
      const clone = handle.clone(packet);
      const copy = handle.copy(packet);
      if (clone === null || copy === null) throw new Error('no packets');
      expect(contextOf(copy).isPacketDataSafe).toBe(true);
      expect(contextOf(clone).isPacketDataSafe).toBe(false);
      expect(handle.isWritable(clone)).toBe(false);
      expect(handle.isWritable(packet)).toBe(false);
      expect(() => handle.reclassify(packet)).toThrow('rule 19');
      copy.bytes[copy.offset + 14] = 99;
      handle.completeIngress(batchOf(clone));
      handle.injectIngress(batchOf(copy), 0);
      handle.completeIngress(batch);
    },
  }));
  bench.receive(1, frame());
  expect(
    bench
      .nicOf(2)
      .take()
      .map((sent) => sent.frame[14]),
  ).toEqual([99]);
  expect(bench.outstanding).toBe(0);
});

test('rule 19: a frame that nobody shares may be written in place on ingress, and is judged anew', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.port(3);
  bench.sw.setPortProperty(2, { type: 'vlan', mode: 'access', vlanId: 7 });
  bench.enable('retag', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      const [packet] = batch.packets;
      packet.bytes[packet.offset + 15] = 7;
      handle.reclassify(packet);
      expect(contextOf(packet).vlan).toBe(7);
      handle.sendIngress(batch, flags);
    },
  }));
  bench.receive(1, frame({ tags: [5] }));
  expect(bench.reached()).toEqual([2, 3]);
});

test('rule 20: preserve flags decide per destination what happens to VLAN and priority', () => {
  const bench = forwarding((batch, flags, handle) => {
    const [packet] = batch.packets;
    handle.addDestination(packet, 2, 0, 0);
    handle.addDestination(packet, 3, 0, DestinationFlag.PRESERVE_VLAN);
    handle.addDestination(packet, 4, 0, DestinationFlag.PRESERVE_PRIORITY);
    handle.sendIngress(batch, flags);
  });
  bench.receive(1, frame({ tags: [(5 << 13) | 10] }));
  const tags = [2, 3, 4].map((portId) => bench.nicOf(portId).take()[0].tag);
  expect(tags).toEqual([0x1_0000, 0x3_000a, 0x3_a000]);
});

test('rule 21: a switch context belongs to the extension that set it, and is gone with the packet and not on clones', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const found: unknown[] = [];
  bench.enable('second', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      found.push(handle.getSwitchContext(batch.packets[0]));
      handle.sendIngress(batch, flags);
    },
  }));
  bench.enable('first', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      const [packet] = batch.packets;
      found.push(handle.getSwitchContext(packet));
      handle.setSwitchContext(packet, { note: 1 });
      const clone = handle.clone(packet);
      if (clone === null) throw new Error('no packets');
      found.push(handle.getSwitchContext(clone));
      handle.completeIngress(batchOf(clone));
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      found.push(handle.getSwitchContext(batch.packets[0]));
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  bench.receive(1, frame());
  expect(found).toEqual([null, null, null, { note: 1 }, null, null, null, { note: 1 }]);
});

test('rule 22: every function of the handler table is there', () => {
  const bench = new Bench();
  const handle = bench.enable('capture', 'capturing', () => ({}));
  const table = [
    handle.allocateContext,
    handle.freeContext,
    handle.setSource,
    handle.addDestination,
    handle.growDestinations,
    handle.context,
    handle.updateDestinations,
    handle.copyInfo,
    handle.referencePort,
    handle.dereferencePort,
    handle.referenceNic,
    handle.dereferenceNic,
    handle.reportFiltered,
    handle.setSwitchContext,
    handle.getSwitchContext,
  ];
  for (const call of table) expect(call).toBeTypeOf('function');
});

test('rule 23: SINGLE_SOURCE is refused for packets of several sources', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const held: Batch[] = [];
  const handle = bench.enable('hold', 'filtering', () => ({ onIngress: (batch) => held.push(keep(batch)) }));
  bench.receive(1, frame());
  bench.receive(2, frame());
  const mixed = batchOf(held[0].packets[0], held[1].packets[0]);
  expect(() => handle.sendIngress(mixed, PacketFlag.SINGLE_SOURCE)).toThrow('rule 23');
  expect(mixed.count).toBe(2);
  handle.sendIngress(mixed, PacketFlag.NONE);
  expect(bench.reached()).toEqual([1, 2]);
});

test("rule 24: DESTINATION_GROUP is forwarding's alone and must hold; on egress the switch sets it", () => {
  const seen: number[] = [];
  const bench = forwarding((batch, flags, handle) => {
    for (let i = 0; i < batch.count; i += 1) handle.addDestination(batch.packets[i], i === 0 ? 2 : 3, 0, 0);
    if (batch.count > 1) {
      expect(() => handle.sendIngress(batch, flags | PacketFlag.DESTINATION_GROUP)).toThrow('rule 24');
      handle.sendIngress(batch, flags);
    } else {
      handle.sendIngress(batch, flags | PacketFlag.DESTINATION_GROUP);
    }
  });
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      expect(() => handle.sendIngress(batch, flags | PacketFlag.DESTINATION_GROUP)).toThrow('rule 24');
      handle.sendIngress(batch, flags);
    },
    onEgress: (batch, flags) => {
      seen.push(flags & PacketFlag.DESTINATION_GROUP);
      handle.indicateEgress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  bench.receive(1, frame(), frame());
  expect(seen).toEqual([PacketFlag.DESTINATION_GROUP, 0]);
});

/** A GRE frame as NVGRE has it: key present, protocol Transparent Ethernet Bridging. */
const nvgre = frame({
  from: mac(9),
  to: mac(2),
  type: 0x0800,
  payload: ipv4([10, 0, 0, 9], [10, 0, 0, 2], 47, [0x20, 0, 0x65, 0x58, 0, 0, 1, 0]),
});

test('rule 25: NVGRE from the external port is forwarded by the switch, after filters and past the forwarding extension', () => {
  const bench = new Bench();
  bench.port(1, { type: 'external' });
  bench.port(2);
  bench.port(3);
  const seen: string[] = [];
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => {
      for (let i = 0; i < batch.count; i += 1) {
        const packet = batch.packets[i];
        const native = contextOf(packet).nativeForwardingRequired;
        seen.push(`forward ${native}`);
        if (native) expect(() => handle.addDestination(packet, 3, 0, 0)).toThrow('rule 25');
        else handle.addDestination(packet, 3, 0, 0);
      }
      handle.sendIngress(batch, flags);
    },
  }));
  bench.enable('filter', 'filtering', (handle) => ({
    onIngress: (batch, flags) => {
      seen.push(`filter ${contextOf(batch.packets[0]).nativeForwardingRequired}`);
      handle.sendIngress(batch, flags);
    },
  }));
  bench.receive(1, nvgre);
  expect(seen).toEqual(['filter false', 'forward true']);
  expect(bench.reached()).toEqual([2, 3]);
  bench.receive(2, nvgre);
  expect(seen.slice(2)).toEqual(['filter false', 'forward false']);
  expect(bench.reached()).toEqual([3]);
});

test('rule 25: the extension may still filter natively forwarded packets', () => {
  const bench = new Bench();
  bench.port(1, { type: 'external' });
  bench.port(2);
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch) => handle.dropIngress(batch, 1, DropReason.EXTENSION_OTHER, true),
  }));
  bench.receive(1, nvgre);
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(1)).toEqual({ EXTENSION_OTHER: 1 });
});

test('packets that an extension keeps can be sent on much later, in another order', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const held: Batch[] = [];
  const handle = bench.enable('delay', 'filtering', (own) => ({
    ...passing(own),
    onIngress: (batch) => {
      held.push(keep(batch));
      own.setTimer(50, () => {
        const batchNow = held.pop();
        if (batchNow !== undefined) own.sendIngress(batchNow, 0);
      });
    },
  }));
  bench.receive(1, frame({ payload: [1] }));
  bench.receive(1, frame({ payload: [2] }));
  expect(bench.sw.extensions()[0].heldPackets).toBe(2);
  expect(bench.reached()).toEqual([]);
  bench.host.advance(60);
  expect(
    bench
      .nicOf(2)
      .take()
      .map((sent) => sent.frame[14]),
  ).toEqual([2, 1]);
  expect(bench.outstanding).toBe(0);
  expect(handle.name).toBe('delay');
});
