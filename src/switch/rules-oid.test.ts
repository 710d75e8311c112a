/** Rules 31 to 43: what extensions do with OIDs, queries, properties, save and restore, status. */
import { expect, test } from 'vitest';
import type { JsonValue, OidRequest, SavedState, Status } from './index.ts';
import { Bench, frame, mac, TestNic } from './testing.ts';

/** Rule numbers of the misuse events so far. */
function misuse(bench: Bench): number[] {
  return bench.events.flatMap((event) => (event.type === 'misuse' ? [event.rule] : []));
}

test('rule 31: creation and properties may be vetoed, and nothing is left of what was vetoed', () => {
  const bench = new Bench();
  let veto = true;
  bench.enable('strict', 'filtering', () => ({
    onOid: ({ oid }) => {
      const judged = [
        'PORT_CREATE',
        'NIC_CREATE',
        'PORT_PROPERTY_ADD',
        'PORT_PROPERTY_UPDATE',
        'PROPERTY_ADD',
        'PROPERTY_UPDATE',
      ];
      return veto && judged.includes(oid.kind) ? 'DATA_NOT_ACCEPTED' : 'forward';
    },
  }));
  expect(() => bench.sw.createPort({ portId: 1, name: 'p1' }).result()).toThrow('PORT_CREATE was refused');
  expect(bench.sw.ports()).toEqual([]);
  veto = false;
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  veto = true;
  expect(() => bench.sw.createNic(1, { name: 'n', backend: new TestNic() }).result()).toThrow('NIC_CREATE was refused');
  expect(bench.sw.port(1).nics).toEqual([]);
  const vlan = { type: 'vlan', mode: 'access', vlanId: 5 };
  expect(() => bench.sw.setPortProperty(1, vlan).result()).toThrow('PORT_PROPERTY_ADD was refused');
  expect(bench.sw.port(1).properties).toEqual([]);
  veto = false;
  bench.sw.setPortProperty(1, vlan).result();
  veto = true;
  expect(() => bench.sw.setPortProperty(1, { ...vlan, vlanId: 6 }).result()).toThrow(
    'PORT_PROPERTY_UPDATE was refused',
  );
  expect(bench.sw.port(1).properties).toEqual([vlan]);
  const custom = { type: 'custom', propertyId: 'x', data: 1 } as const;
  expect(() => bench.sw.addSwitchProperty(custom).result()).toThrow('PROPERTY_ADD was refused');
  expect(misuse(bench)).toEqual([]);
});

test('rule 31: other error codes veto too; physical adapters and deletions cannot be vetoed', () => {
  const bench = new Bench();
  bench.port(9, { type: 'external' });
  let answer: Status = 'RESOURCES';
  bench.enable('strict', 'filtering', () => ({ onOid: () => answer }));
  expect(() => bench.sw.createPort({ name: 'x' }).result()).toThrow('RESOURCES');
  answer = 'DATA_NOT_ACCEPTED';
  bench.sw.createNic(9, { nicIndex: 1, name: 'n', backend: new TestNic() }).result();
  expect(misuse(bench)).toEqual([31]);
  bench.sw.disableExtension('strict').result();
  bench.sw.setPortProperty(9, { type: 'guard', dhcp: true }).result();
  bench.enable('strict2', 'filtering', () => ({ onOid: () => 'DATA_NOT_ACCEPTED' }));
  bench.sw.deletePortProperty(9, 'guard').result();
  expect(misuse(bench)).toEqual([31, 31]);
});

test('rule 31: nobody completes a creation with success, and a capturing extension does not veto (rule 4)', () => {
  const bench = new Bench();
  bench.enable('eager', 'filtering', () => ({ onOid: () => 'SUCCESS' }));
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  expect(misuse(bench)).toEqual([31]);
  bench.sw.disableExtension('eager').result();
  bench.enable('capture', 'capturing', () => ({ onOid: () => 'DATA_NOT_ACCEPTED' }));
  bench.sw.createPort({ portId: 2, name: 'p2' }).result();
  expect(misuse(bench)).toEqual([31, 4]);
});

test('rule 32: what has happened is never completed or failed by an extension', () => {
  const bench = new Bench();
  bench.enable('stubborn', 'filtering', () => ({
    onOid: ({ oid }) => {
      const kinds = ['PORT_CREATE', 'NIC_CREATE', 'NIC_SAVE', 'NIC_RESTORE'];
      return kinds.includes(oid.kind) ? 'forward' : 'FAILURE';
    },
  }));
  bench.port(1);
  bench.sw.updatePort(1, { name: 'new' }).result();
  bench.sw.updateNic(1, 0, { mtuBytes: 9000 }).result();
  bench.sw.saveNic(1, 0).result();
  bench.sw.restoreNic(1, 0, []).result();
  bench.sw.removePort(1).result();
  expect(bench.sw.ports()).toEqual([]);
  expect(misuse(bench)).toEqual([32, 32, 32, 32, 32, 32, 32, 32, 32]);
});

test('rule 32: a pended OID of that kind cannot be completed either, only forwarded', () => {
  const bench = new Bench();
  bench.port(1);
  const pended: OidRequest[] = [];
  const handle = bench.enable('slow', 'filtering', () => ({
    onOid: (request) => {
      pended.push(request);
      return 'pending';
    },
  }));
  const updated = bench.sw.updatePort(1, { name: 'new' });
  expect(() => handle.completeOid(pended[0], 'FAILURE')).toThrow('rule 32');
  expect(updated.state).toBe('pending');
  handle.forwardOid(pended[0]);
  expect(updated.state).toBe('done');
});

test('rule 33: a refusal further down lets the extensions above undo', () => {
  const bench = new Bench();
  const seen: string[] = [];
  bench.enable('below', 'filtering', () => ({
    onOid: () => 'DATA_NOT_ACCEPTED',
    onOidComplete: () => seen.push('below told'),
  }));
  for (const name of ['middle', 'top']) {
    bench.enable(name, 'filtering', (handle) => ({
      onOid: ({ oid }) => {
        if (oid.kind === 'PORT_CREATE') handle.referencePort(oid.port.portId);
        return 'forward';
      },
      onOidComplete: ({ oid }, status) => {
        seen.push(`${name} ${oid.kind} ${status}`);
        if (oid.kind === 'PORT_CREATE' && status !== 'SUCCESS') handle.dereferencePort(oid.port.portId);
      },
    }));
  }
  expect(() => bench.sw.createPort({ portId: 1, name: 'p1' }).result()).toThrow('refused');
  expect(seen).toEqual(['middle PORT_CREATE DATA_NOT_ACCEPTED', 'top PORT_CREATE DATA_NOT_ACCEPTED']);
  bench.checkFailures();
});

test('rule 33: extensions originate queries only', () => {
  const bench = new Bench();
  bench.port(1);
  const handle = bench.enable('filter', 'filtering', () => ({}));
  const port = { portId: 1, name: 'p1', type: 'synthetic', state: 'created' } as const;
  const forged = { kind: 'PORT_DELETE', port } as unknown as { kind: 'PORT_ARRAY' };
  expect(() => handle.query(forged)).toThrow('rule 33');
  expect(bench.sw.ports()).toHaveLength(1);
});

test('rule 34: parameters can always be asked for, arrays and properties once the switch is active', () => {
  const bench = new Bench();
  bench.port(1);
  const handle = bench.enable('filter', 'filtering', () => ({}));
  expect(handle.query({ kind: 'SWITCH_PARAMETERS' }).value).toEqual({ name: 'test', active: true, numSwitchPorts: 1 });
  expect(handle.query({ kind: 'PORT_ARRAY' }).value).toMatchObject([{ portId: 1, name: 'p1', state: 'created' }]);
  expect(handle.query({ kind: 'NIC_ARRAY' }).value).toMatchObject([{ portId: 1, nicIndex: 0, state: 'connected' }]);
  expect(handle.query({ kind: 'PROPERTY_ENUM' }).value).toEqual([]);
  bench.sw.close().result();
  const idle = new Bench();
  idle.sw.close().result();
  for (const kind of ['PORT_ARRAY', 'NIC_ARRAY', 'PROPERTY_ENUM'] as const) {
    expect(() => handle.query({ kind })).toThrow('rule 34');
  }
  expect(handle.query({ kind: 'SWITCH_PARAMETERS' }).value?.active).toBe(false);
});

test('rule 34: too small a buffer is INVALID_LENGTH with the bytes needed', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const handle = bench.enable('filter', 'filtering', () => ({}));
  const short = handle.query({ kind: 'PORT_ARRAY' }, 16);
  expect(short).toMatchObject({ status: 'INVALID_LENGTH', value: null });
  expect(handle.query({ kind: 'PORT_ARRAY' }, short.bytesNeeded).value).toHaveLength(2);
  expect(handle.query({ kind: 'PORT_ARRAY' }, short.bytesNeeded - 1).status).toBe('INVALID_LENGTH');
});

test('rule 35: the properties of a port are enumerated between create and teardown, under a reference', () => {
  const bench = new Bench();
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  bench.sw.setPortProperty(1, { type: 'guard', dhcp: true }).result();
  bench.sw.setPortProperty(1, { type: 'custom', propertyId: 'x', data: { a: [1] } }).result();
  const handle = bench.enable('filter', 'filtering', () => ({}));
  const query = { kind: 'PORT_PROPERTY_ENUM', portId: 1, type: 'all' } as const;
  expect(() => handle.query(query)).toThrow('rule 35');
  handle.referencePort(1);
  expect(handle.query(query).value).toHaveLength(2);
  expect(handle.query({ ...query, type: 'guard' }).value).toEqual([{ type: 'guard', dhcp: true, router: false }]);
  bench.sw.teardownPort(1).result();
  expect(() => handle.query(query)).toThrow('rule 35');
});

test('rule 36: custom properties are completed by forwarding, standard ones by nobody but the switch', () => {
  const bench = new Bench();
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  let reachedForwarding = 0;
  bench.enable('forward', 'forwarding', () => ({
    onOid: ({ oid }) => {
      if (!('property' in oid)) return 'forward';
      reachedForwarding += 1;
      return 'SUCCESS';
    },
  }));
  const custom = { type: 'custom', propertyId: 'x', data: null };
  bench.sw.setPortProperty(1, custom).result();
  expect(misuse(bench)).toEqual([]);
  bench.sw.setPortProperty(1, { type: 'guard' }).result();
  expect(misuse(bench)).toEqual([36]);
  expect(reachedForwarding).toBe(2);
  bench.enable('filter', 'filtering', () => ({ onOid: ({ oid }) => ('property' in oid ? 'SUCCESS' : 'forward') }));
  bench.sw.setPortProperty(1, custom).result();
  expect(misuse(bench)).toEqual([36, 36]);
  expect(reachedForwarding).toBe(3);
});

test('rule 36: updating or deleting a switch property that nobody knows is INVALID_PARAMETER', () => {
  const bench = new Bench();
  const property = { type: 'custom', propertyId: 'x', data: { v: 1 } } as const;
  expect(() => bench.sw.updateSwitchProperty(property).result()).toThrow('INVALID_PARAMETER');
  expect(() => bench.sw.deleteSwitchProperty('x').result()).toThrow('INVALID_PARAMETER');
  bench.sw.addSwitchProperty(property).result();
  expect(() => bench.sw.addSwitchProperty(property).result()).toThrow('INVALID_PARAMETER');
  bench.sw.updateSwitchProperty({ ...property, data: 2 }).result();
  expect(bench.sw.switchProperties()).toEqual([{ ...property, data: 2 }]);
  bench.sw.deleteSwitchProperty('x').result();
  expect(bench.sw.switchProperties()).toEqual([]);
});

test('rule 37: every property type is known, and wrong fields are named', () => {
  const bench = new Bench();
  bench.sw.createPort({ portId: 1, name: 'p1' }).result();
  const good: unknown[] = [
    { type: 'security', virtualSubnetId: 0, allowTeaming: true, dynamicIpAddressLimit: 4 },
    { type: 'vlan', mode: 'trunk', nativeVlanId: 1, trunkVlanIds: [2, 3], pruneVlanIds: [3] },
    { type: 'profile', profileId: 'p', data: { deep: [null, true] } },
    { type: 'routingDomain', domains: [{ id: 'a', isolationIds: [5] }] },
    {
      type: 'acl',
      rules: [{ direction: 'in', action: 'deny', remoteIp: '2001:db8::/32', protocol: 6, remotePort: 22 }],
    },
    { type: 'guard', dhcp: true, router: true },
    { type: 'qos', maxRateBps: 1_000_000 },
    { type: 'monitor', mode: 'source' },
    { type: 'custom', propertyId: 'x', data: 1 },
  ];
  for (const property of good) bench.sw.setPortProperty(1, property).result();
  expect(bench.sw.port(1).properties).toHaveLength(good.length);
  const bad: [unknown, string][] = [
    [null, 'property value must be an object'],
    [{ type: 'nonsense' }, 'field type'],
    [{ type: 'vlan', mode: 'access', vlanId: 4095 }, 'field vlanId must be an integer from 1 to 4094'],
    [{ type: 'vlan', mode: 'access', vlanId: 5, extra: 1 }, 'field extra is not known'],
    [
      { type: 'vlan', mode: 'private', privateMode: 'isolated', primaryVlanId: 5, secondaryVlanId: 5 },
      'secondaryVlanId',
    ],
    [{ type: 'acl', rules: [{ direction: 'in', action: 'deny', remoteIp: '10.0.0.0/33' }] }, 'ACL rule 0'],
    [{ type: 'acl', rules: [{ direction: 'up', action: 'deny' }] }, 'field rules[0].direction must be one of in, out'],
    [{ type: 'acl', rules: [7] }, 'field rules[0] must be an object'],
    [
      { type: 'acl', rules: [{ direction: 'in', action: 'deny', state: ['new', 'new'] }] },
      'field rules[0].state must be a list of one or more of new, established, related, invalid, each once',
    ],
    [{ type: 'binding', addresses: [{ ip: '10.0.0.1', name: 'a' }] }, 'field addresses[0].name is not known'],
    [{ type: 'vlan' }, 'field mode must be one of access, trunk, private'],
    [{ type: 'vlan', mode: 'private', primaryVlanId: 5 }, 'field privateMode must be one of isolated, community'],
    [
      { type: 'vlan', mode: 'trunk', pruneVlanIds: [1, 4095] },
      'field pruneVlanIds[1] must be an integer from 1 to 4094',
    ],
    [{ type: 'vlan', mode: 'trunk', trunkVlanIds: 'none' }, 'field trunkVlanIds must be "all", or a list'],
    [{ type: 'isolation', mode: 'nativeVirtualSubnet' }, 'field defaultIsolationId must be an integer from 1'],
    [{ type: 'security', macAddresses: ['01:00:00:00:00:01'] }, 'field macAddresses[0] must be the MAC address of one'],
    [{ type: 'profile' }, 'field profileId must be a text'],
    [{ type: 'guard', dhcp: 'yes' }, 'field dhcp must be true or false'],
    [{ type: 'custom', propertyId: 'x', data: () => 1 }, 'field data must be plain JSON'],
    [{ type: 'qos', maxRateBps: 1 }, 'field maxRateBps'],
    [{ type: 'isolation', mode: 'vlan' }, 'VLAN or isolation'],
  ];
  for (const [property, message] of bad) expect(() => bench.sw.setPortProperty(1, property).result()).toThrow(message);
  expect(bench.sw.port(1).properties).toHaveLength(good.length);
  expect(() => bench.sw.addSwitchProperty({ type: 'guard' } as never).result()).toThrow('custom');
});

test('rule 38: feature status is answered by the extension that has the feature, or by the switch, for switch and port', () => {
  const bench = new Bench();
  bench.port(1);
  bench.enable('capture', 'capturing', () => ({
    onOid: (request) => {
      const { oid } = request;
      if (oid.kind !== 'FEATURE_STATUS_QUERY' && oid.kind !== 'PORT_FEATURE_STATUS_QUERY') return 'forward';
      if (oid.featureId !== 'sampling') return 'forward';
      request.output = { rate: oid.kind === 'FEATURE_STATUS_QUERY' ? 10 : oid.portId };
      return 'SUCCESS';
    },
  }));
  expect(bench.sw.featureStatus('sampling').result()).toEqual({ rate: 10 });
  expect(bench.sw.featureStatus('sampling', 1).result()).toEqual({ rate: 1 });
  expect(bench.sw.featureStatus('macTable').result()).toMatchObject({ capacity: 16_384, entries: 0 });
  bench.sw.setPortProperty(1, { type: 'acl', rules: [{ direction: 'in', action: 'meter' }] }).result();
  bench.receive(1, frame());
  expect(bench.sw.featureStatus('acl', 1).result()).toEqual({
    in: [{ rule: expect.objectContaining({ direction: 'in', action: 'meter' }), packets: 1, bytes: 60 }],
    out: [],
  });
  expect(() => bench.sw.featureStatus('nothing').result()).toThrow('NOT_SUPPORTED');
  expect(() => bench.sw.featureStatus('acl', 9).result()).toThrow('there is no port 9');
});

const request = {
  sourcePortId: 1,
  sourceNicIndex: 0,
  destinationPortId: 2,
  destinationNicIndex: 0,
  name: 'offload',
  data: 7,
};

test('rule 39: a NIC request reaches the destination NIC with its ids, which nobody may change', () => {
  const bench = new Bench();
  bench.failuresExpected = true;
  bench.port(1);
  bench.port(2).answer = { status: 'SUCCESS', value: 'done' };
  bench.enable('watch', 'filtering', () => ({ onOid: () => 'forward' }));
  expect(bench.sw.nicRequest(request).result()).toBe('done');
  expect(bench.nicOf(2).requests).toEqual([request]);
  bench.enable('forger', 'filtering', () => ({
    onOid: (flight) => {
      (flight as { oid: unknown }).oid = { kind: 'NIC_REQUEST', request: { ...request, destinationPortId: 1 } };
      return 'forward';
    },
  }));
  expect(bench.sw.nicRequest(request).result()).toBe('done');
  const failure = bench.events.find((event) => event.type === 'extension-failed');
  expect(failure?.type === 'extension-failed' && failure.error.message).toContain('rule 39');
  expect(bench.nicOf(1).requests).toEqual([]);
});

test('rule 39: only forwarding redirects a NIC request, and only to the external port', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  bench.port(9, { type: 'external' }).answer = { status: 'SUCCESS', value: 'external' };
  bench.enable('forward', 'forwarding', (handle) => ({
    onOid: (flight) => {
      if (flight.oid.kind !== 'NIC_REQUEST') return 'forward';
      expect(() => handle.redirectNicRequest(flight, 1, 0)).toThrow('rule 39');
      handle.redirectNicRequest(flight, 9, 0);
      return 'forward';
    },
  }));
  bench.enable('filter', 'filtering', (handle) => ({
    onOid: (flight) => {
      if (flight.oid.kind === 'NIC_REQUEST') {
        expect(() => handle.redirectNicRequest(flight, 9, 0)).toThrow('rule 39');
      }
      return 'forward';
    },
  }));
  expect(bench.sw.nicRequest(request).result()).toBe('external');
  expect(bench.nicOf(9).requests).toEqual([{ ...request, destinationPortId: 9 }]);
  bench.checkFailures();
});

/** An extension that saves pieces of state and takes them back. */
function saver(bench: Bench, name: string, pieces: Uint8Array[]): { restored: Uint8Array[]; fail: boolean } {
  const state = { restored: [] as Uint8Array[], fail: false };
  let next = 0;
  bench.enable(name, 'filtering', () => ({
    onOid: (flight) => {
      if (flight.oid.kind === 'NIC_SAVE') {
        const piece = pieces[next];
        if (piece === undefined) return 'forward';
        if (piece.length > flight.capacityBytes) {
          flight.bytesNeeded = piece.length;
          return 'BUFFER_TOO_SHORT';
        }
        flight.extensionId = name;
        flight.saveData = piece;
        next += 1;
        return 'SUCCESS';
      }
      if (flight.oid.kind === 'NIC_SAVE_COMPLETE') next = 0;
      if (flight.oid.kind === 'NIC_RESTORE' && flight.oid.saved.extensionId === name) {
        if (state.fail) return 'FAILURE';
        state.restored.push(flight.oid.saved.data);
        return 'SUCCESS';
      }
      return 'forward';
    },
  }));
  return state;
}

test('rule 40: each extension with state fills in pieces under its own id, with more room when it asks', () => {
  const bench = new Bench();
  bench.port(1);
  const large = new Uint8Array(10_000).fill(7);
  saver(bench, 'b', [Uint8Array.of(3)]);
  saver(bench, 'a', [Uint8Array.of(1), large]);
  const saved = bench.sw.saveNic(1, 0).result();
  expect(saved.map((piece) => [piece.extensionId, piece.data.length])).toEqual([
    ['a', 1],
    ['a', 10_000],
    ['b', 1],
  ]);
  expect(bench.sw.saveNic(1, 0).result()).toHaveLength(3);
});

test('rule 40: save data under another id, without data, or over its room is misuse', () => {
  const bench = new Bench();
  bench.port(1);
  let forge: (flight: OidRequest) => Status = () => 'SUCCESS';
  bench.enable('forger', 'filtering', () => ({
    onOid: (flight) => (flight.oid.kind === 'NIC_SAVE' ? forge(flight) : 'forward'),
  }));
  expect(bench.sw.saveNic(1, 0).result()).toEqual([]);
  forge = (flight) => {
    flight.extensionId = 'forger';
    flight.saveData = new Uint8Array(5000);
    return 'SUCCESS';
  };
  bench.sw.saveNic(1, 0).result();
  forge = () => 'BUFFER_TOO_SHORT';
  bench.sw.saveNic(1, 0).result();
  expect(misuse(bench)).toEqual([40, 40, 40]);
});

test('rule 41: each piece goes to the extension that saved it, on whatever port; unclaimed ones are told', () => {
  const from = new Bench();
  from.port(1);
  saver(from, 'a', [Uint8Array.of(1, 2)]);
  const saved = from.sw.saveNic(1, 0).result();
  const to = new Bench();
  to.port(5);
  const state = saver(to, 'a', []);
  const stranger: SavedState = { extensionId: 'gone', data: Uint8Array.of(9) };
  expect(to.sw.restoreNic(5, 0, [...saved, stranger]).result()).toEqual(['gone']);
  expect(state.restored).toEqual([Uint8Array.of(1, 2)]);
});

test('rule 41: one failure fails the whole restore; nobody completes a piece of others', () => {
  const bench = new Bench();
  bench.port(1);
  const b = saver(bench, 'b', []);
  const a = saver(bench, 'a', []);
  a.fail = true;
  const pieces = [
    { extensionId: 'a', data: Uint8Array.of(1) },
    { extensionId: 'b', data: Uint8Array.of(2) },
  ];
  expect(() => bench.sw.restoreNic(1, 0, pieces).result()).toThrow('a could not restore');
  expect(b.restored).toEqual([]);
  a.fail = false;
  expect(bench.sw.restoreNic(1, 0, pieces).result()).toEqual([]);
  bench.enable('thief', 'filtering', () => ({
    onOid: ({ oid }) => (oid.kind === 'NIC_RESTORE' ? 'SUCCESS' : 'forward'),
  }));
  bench.sw.restoreNic(1, 0, pieces).result();
  expect(misuse(bench)).toEqual([41, 41]);
  expect(b.restored).toHaveLength(2);
});

test('rule 41: restores of one NIC do not interleave, those of different NICs may', () => {
  const bench = new Bench();
  bench.port(1);
  bench.port(2);
  const pended: OidRequest[] = [];
  const handle = bench.enable('a', 'filtering', () => ({
    onOid: (flight) => {
      if (flight.oid.kind !== 'NIC_RESTORE') return 'forward';
      pended.push(flight);
      return 'pending';
    },
  }));
  const pieces = [{ extensionId: 'a', data: Uint8Array.of(1) }];
  const first = bench.sw.restoreNic(1, 0, pieces);
  expect(() => bench.sw.restoreNic(1, 0, pieces).result()).toThrow('already');
  expect(() => bench.sw.saveNic(1, 0).result()).toThrow('already');
  const second = bench.sw.restoreNic(2, 0, pieces);
  handle.completeOid(pended[1], 'SUCCESS');
  expect([first.state, second.state]).toEqual(['pending', 'done']);
  handle.completeOid(pended[0], 'SUCCESS');
  expect(first.state).toBe('done');
});

test('rule 42: a restart of the stack waits for pending OIDs, and OIDs wait for the restart', () => {
  const bench = new Bench();
  bench.port(1);
  const pended: OidRequest[] = [];
  const handle = bench.enable('slow', 'filtering', () => ({
    onOid: (flight) => {
      if (flight.oid.kind !== 'PORT_UPDATED') return 'forward';
      pended.push(flight);
      return 'pending';
    },
  }));
  const seen: string[] = [];
  const renamed = bench.sw.updatePort(1, { name: 'new' });
  const other = {
    descriptor: { name: 'other', type: 'filtering', version: '1' },
    create: () => ({ onOid: watch }),
  } as const;
  function watch({ oid }: OidRequest): 'forward' {
    seen.push(oid.kind);
    return 'forward';
  }
  const enabled = bench.sw.enableExtension(other);
  const created = bench.sw.createPort({ portId: 2, name: 'p2' });
  expect([renamed.state, enabled.state, created.state]).toEqual(['pending', 'pending', 'pending']);
  handle.forwardOid(pended[0]);
  expect([renamed.state, enabled.state, created.state]).toEqual(['done', 'done', 'done']);
  expect(seen).toEqual(['PORT_CREATE']);
});

test('rule 43: a NIC status wraps the inner indication and goes up, unless an extension keeps it', () => {
  const bench = new Bench();
  bench.port(1);
  const seen: string[] = [];
  let keepIt = false;
  bench.enable('low', 'filtering', () => ({
    onStatus: ({ inner }) => {
      seen.push(`low ${inner.name}`);
      return !keepIt;
    },
  }));
  const high = bench.enable('high', 'filtering', () => ({
    onStatus: ({ inner }) => {
      seen.push(`high ${inner.name}`);
      return true;
    },
  }));
  const indication = {
    kind: 'NIC_STATUS',
    portId: 1,
    nicIndex: 0,
    inner: { name: 'link-down', data: null as JsonValue },
  } as const;
  bench.sw.indicateNicStatus(indication);
  keepIt = true;
  bench.sw.indicateNicStatus(indication);
  high.indicateStatus({ ...indication, inner: { name: 'own', data: 1 } });
  expect(seen).toEqual(['low link-down', 'high link-down', 'low link-down']);
  expect(bench.events.filter((event) => event.type === 'status').map((event) => event.indication.inner.name)).toEqual([
    'link-down',
    'own',
  ]);
});

test('a disabled NIC keeps its learned state out of the way: addresses behind a removed port are forgotten', () => {
  const bench = new Bench();
  for (const portId of [1, 2, 3]) bench.port(portId);
  bench.receive(2, frame({ from: mac(2) }));
  bench.sw.removePort(2).result();
  bench.nics.delete(2);
  bench.reached();
  bench.receive(1, frame({ to: mac(2) }));
  expect(bench.reached()).toEqual([3]);
});
