/** Rules 26 to 30 and the table of states: ports, NICs, references, disconnects. */
import { expect, test } from 'vitest';
import type { Batch } from '../net/index.ts';
import { contextOf, type ExtensionHandle, type OidRequest } from './index.ts';
import { Bench, batchOf, frame, keep, mac, TestNic } from './testing.ts';

test('rule 26: a port and its NIC go through their states in order', () => {
  const bench = new Bench();
  const seen: string[] = [];
  bench.enable('watch', 'capturing', () => ({
    onOid: (request) => {
      seen.push(request.oid.kind);
      return 'forward';
    },
  }));
  bench.port(1);
  bench.sw.disconnectNic(1).result();
  bench.sw.deleteNic(1).result();
  bench.sw.teardownPort(1).result();
  bench.sw.deletePort(1).result();
  expect(seen).toEqual([
    'PORT_CREATE',
    'NIC_CREATE',
    'NIC_CONNECT',
    'NIC_DISCONNECT',
    'NIC_DELETE',
    'PORT_TEARDOWN',
    'PORT_DELETE',
  ]);
  expect(
    bench.events.filter((event) => event.type === 'port' || event.type === 'nic').map((event) => event.state),
  ).toEqual(['created', 'created', 'connected', 'disconnected', 'deleted', 'tearing-down', 'deleted']);
});

test('rule 26: steps out of order are refused', () => {
  const bench = new Bench();
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  expect(() => bench.sw.deletePort(1).result()).toThrow('rule 26');
  bench.sw.createNic(1, { name: 'n', backend: new TestNic() }).result();
  expect(() => bench.sw.disconnectNic(1).result()).toThrow('rule 26');
  expect(() => bench.sw.teardownPort(1).result()).toThrow('rule 26');
  bench.sw.connectNic(1).result();
  expect(() => bench.sw.connectNic(1).result()).toThrow('rule 26');
  expect(() => bench.sw.deleteNic(1).result()).toThrow('rule 26');
  bench.sw.disconnectNic(1).result();
  expect(() => bench.sw.connectNic(1).result()).toThrow('rule 26');
});

test('rule 26: a new NIC may attach to an existing port, and a port may never get one', () => {
  const bench = new Bench();
  bench.port(1);
  bench.sw.createPort({ portId: 2, name: 'p2' }).result();
  bench.sw.disconnectNic(1).result();
  bench.sw.deleteNic(1).result();
  bench.nic(1, 0);
  bench.port(3);
  bench.receive(3, frame());
  expect(bench.reached()).toEqual([1]);
  bench.sw.removePort(2).result();
  expect(bench.sw.ports().map((port) => port.portId)).toEqual([1, 3]);
});

test('rule 27: port references hold back PORT_DELETE until they are given back', () => {
  const bench = new Bench();
  const seen: string[] = [];
  const handle = bench.enable('filter', 'filtering', () => ({
    onOid: (request) => {
      seen.push(request.oid.kind);
      return 'forward';
    },
  }));
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  handle.referencePort(1);
  handle.referencePort(1);
  bench.sw.teardownPort(1).result();
  const deleted = bench.sw.deletePort(1);
  expect(deleted.state).toBe('pending');
  expect(() => handle.referencePort(1)).toThrow('rule 27');
  handle.dereferencePort(1);
  expect(deleted.state).toBe('pending');
  handle.dereferencePort(1);
  expect(deleted.state).toBe('done');
  expect(seen).toEqual(['PORT_CREATE', 'PORT_TEARDOWN', 'PORT_DELETE']);
  expect(() => handle.dereferencePort(1)).toThrow('rule 27');
});

test('rule 27: NIC references hold back NIC_DELETE, and are taken only while connected', () => {
  const bench = new Bench();
  const handle = bench.enable('filter', 'filtering', () => ({}));
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  expect(() => handle.referenceNic(1, 0)).toThrow('rule 27');
  bench.sw.createNic(1, { name: 'n', backend: new TestNic() }).result();
  expect(() => handle.referenceNic(1, 0)).toThrow('rule 27');
  bench.sw.connectNic(1).result();
  handle.referenceNic(1, 0);
  bench.sw.disconnectNic(1).result();
  expect(() => handle.referenceNic(1, 0)).toThrow('rule 27');
  const deleted = bench.sw.deleteNic(1);
  expect(deleted.state).toBe('pending');
  handle.dereferenceNic(1, 0);
  expect(deleted.state).toBe('done');
  expect(() => handle.dereferenceNic(1, 0)).toThrow('rule 27');
});

test('rule 27: a disabled extension holds nothing back any more, and packets do not reference NICs', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const handle = bench.enable('filter', 'filtering', () => ({}));
  handle.referencePort(1);
  bench.receive(2, frame());
  expect(bench.sw.port(1).nics[0].references).toBe(0);
  const removed = bench.sw.removePort(1);
  expect(removed.state).toBe('pending');
  bench.sw.disableExtension('filter').result();
  expect(removed.state).toBe('done');
});

test('rule 28: between create and connect packets are forwarded, but nothing is originated for the NIC', () => {
  const bench = new Bench();
  bench.port(2);
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  bench.sw.createNic(1, { name: 'n', backend: new TestNic() }).result();
  const handle = bench.enable('filter', 'filtering', () => ({}));
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
  const packet = bench.packet(frame());
  handle.allocateContext(packet);
  expect(() => handle.setSource(packet, 1, 0)).toThrow('rule 28');
  handle.completeIngress(batchOf(packet));
});

test('a disconnected NIC brings nothing in: a named drop', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.sw.disconnectNic(1).result();
  bench.receive(1, frame());
  expect(bench.drops(1)).toEqual({ NIC_NOT_CONNECTED: 1 });
  expect(bench.reached()).toEqual([]);
  expect(bench.outstanding).toBe(0);
});

test('packets from a port that does not exist are dropped and given back', () => {
  const bench = new Bench();
  bench.receive(77, frame());
  bench.receive(-1, frame());
  expect(bench.drops(0)).toEqual({ UNKNOWN_PORT: 2 });
  expect(bench.outstanding).toBe(0);
});

test('rule 29: after a forwarded disconnect the port is no destination any more', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const refusals: string[] = [];
  bench.enable('forward', 'forwarding', (handle) => ({
    onIngress: (batch, flags) => {
      try {
        handle.addDestination(batch.packets[0], 2, 0, 0);
      } catch (error) {
        refusals.push(String(error));
      }
      handle.sendIngress(batch, flags);
    },
  }));
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([2]);
  bench.sw.disconnectNic(2).result();
  bench.receive(1, frame());
  expect(refusals).toHaveLength(1);
  expect(refusals[0]).toContain('rule 29');
  expect(bench.reached()).toEqual([]);
  expect(bench.drops(1)).toEqual({ NO_DESTINATION: 1 });
});

test('rule 29: a disconnect is pended, packets for the port are finished, references given back, and only then it is forwarded', () => {
  const bench = new Bench();
  bench.port(1);
  const out = bench.port(2);
  const held: Batch[] = [];
  const pended: OidRequest[] = [];
  const handle: ExtensionHandle = bench.enable('forward', 'forwarding', (own) => ({
    onIngress: (batch) => held.push(keep(batch)),
    onOid: (request) => {
      if (request.oid.kind !== 'NIC_DISCONNECT') return 'forward';
      pended.push(request);
      own.referencePort(request.oid.nic.portId);
      return 'pending';
    },
  }));
  bench.receive(1, frame());
  const disconnected = bench.sw.disconnectNic(2);
  expect(disconnected.state).toBe('pending');
  expect(() => bench.sw.deleteNic(2).result()).toThrow('being created, moved or deleted');
  for (const batch of held) {
    handle.addDestination(batch.packets[0], 2, 0, 0);
    handle.sendIngress(batch, 0);
  }
  expect(out.take()).toHaveLength(1);
  expect(() => handle.forwardOid(pended[0])).toThrow('rule 29');
  handle.dereferencePort(2);
  handle.forwardOid(pended[0]);
  expect(disconnected.state).toBe('done');
  expect(bench.sw.port(2).nics[0].state).toBe('disconnected');
  expect(() => handle.forwardOid(pended[0])).toThrow('rule 32');
});

test('rule 30: indexes 1 to 32 belong to the external port, each created and connected for itself', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(9, { type: 'external' });
  const seen: string[] = [];
  bench.enable('watch', 'capturing', () => ({
    onOid: ({ oid }) => {
      if ('nic' in oid) seen.push(`${oid.kind} ${oid.nic.nicIndex}`);
      return 'forward';
    },
  }));
  expect(() => bench.nic(1, 1)).toThrow('rule 30');
  expect(() => bench.nic(9, 33)).toThrow('rule 30');
  bench.nic(9, 1);
  bench.nic(9, 32);
  expect(seen).toEqual(['NIC_CREATE 1', 'NIC_CONNECT 1', 'NIC_CREATE 32', 'NIC_CONNECT 32']);
  expect(() => bench.sw.createPort({ name: 'second', type: 'external' }).result()).toThrow('external already');
});

test('rule 30: index 0 of an external port spreads flows over the connected physical adapters, never back to the port', () => {
  const bench = new Bench();
  bench.port(1);
  const whole = bench.port(9, { type: 'external' });
  const members = [bench.nic(9, 1), bench.nic(9, 2)];
  for (let host = 1; host <= 16; host += 1) bench.receive(1, frame({ from: mac(host) }));
  const spread = members.map((nic) => nic.take().length);
  expect(spread).toEqual([8, 8]);
  expect(whole.take()).toEqual([]);
  bench.sw.disconnectNic(9, 1).result();
  for (let host = 1; host <= 4; host += 1) bench.receive(1, frame({ from: mac(host) }));
  expect(members.map((nic) => nic.take().length)).toEqual([0, 4]);
  bench.receiveAt(9, 2, frame({ from: mac(50) }));
  expect(members.map((nic) => nic.take().length)).toEqual([0, 0]);
  expect(bench.reached()).toEqual([1]);
});

test('rule 30: an address that was learned at a physical adapter is reached through it', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(9, { type: 'external' });
  const members = [bench.nic(9, 1), bench.nic(9, 2)];
  let source = -1;
  bench.enable('watch', 'capturing', (handle) => ({
    onIngress: (batch, flags) => {
      source = contextOf(batch.packets[0]).sourceNicIndex;
      handle.sendIngress(batch, flags);
    },
  }));
  bench.receiveAt(9, 2, frame({ from: mac(50) }));
  expect(source).toBe(2);
  for (let host = 1; host <= 4; host += 1) bench.receive(1, frame({ from: mac(host), to: mac(50) }));
  expect(members.map((nic) => nic.take().length)).toEqual([0, 4]);
});

test('names and ids of ports are unique, and say so when they are taken', () => {
  const bench = new Bench();
  bench.port(1);
  expect(() => bench.sw.createPort({ portId: 1, name: 'x' }).result()).toThrow('port 1 exists');
  expect(() => bench.sw.createPort({ name: 'p1' }).result()).toThrow('a port named p1 exists');
  expect(() => bench.sw.createPort({ portId: 65_536, name: 'x' }).result()).toThrow('1 to 65535');
  expect(() => bench.sw.createPort({ name: '' }).result()).toThrow('1 to 255 characters');
  expect(bench.sw.createPort({ name: 'auto' }).result()).toBe(2);
  bench.sw.updatePort(2, { name: 'renamed' }).result();
  expect(bench.sw.findPort('renamed')).toBe(2);
  expect(() => bench.sw.updatePort(2, { name: 'p1' }).result()).toThrow('exists');
  expect(() => bench.sw.port(9)).toThrow('there is no port 9');
});

test('a NIC that fails while sending is a named drop and an event, and the others get their copies', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2).failing = true;
  bench.port(3);
  bench.receive(1, frame());
  expect(bench.reached()).toEqual([3]);
  expect(bench.drops(2)).toEqual({ NIC_FAILED: 1 });
  expect(bench.events.some((event) => event.type === 'nic-failed' && event.portId === 2)).toBe(true);
});

test('a frame larger than the MTU of a NIC is a named drop, a super-packet is not', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2, {}, { mtuBytes: 1500 });
  bench.receive(1, frame({ length: 1514 }), frame({ length: 1519 }));
  expect(bench.reached()).toEqual([2]);
  expect(bench.drops(2)).toEqual({ EXCEEDS_MTU: 1 });
  const packet = bench.packet(frame({ length: 9000 }));
  packet.gsoType = 1;
  packet.gsoSizeBytes = 1448;
  bench.sw.receive(1, 0, batchOf(packet));
  expect(
    bench
      .nicOf(2)
      .take()
      .map((sent) => sent.frame.length),
  ).toEqual([9000]);
});
