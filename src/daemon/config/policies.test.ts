import { expect, test } from 'vitest';
import { parseConfig } from './parse.ts';
import { expandVlans, propertiesOf } from './policies.ts';

function properties(settings: string) {
  const port = parseConfig(`ports: { p: { kind: memory, ${settings} } }`, 'millrace.yaml').ports.get('p');
  return port === undefined ? [] : propertiesOf(port);
}

test('ranges of VLANs become ids, ascending and each once', () => {
  expect(expandVlans([30, '10-12', 11])).toEqual([10, 11, 12, 30]);
});

test('a port without policies has no properties', () => {
  expect(properties('')).toEqual([]);
});

test('a trunk without a list carries all VLANs', () => {
  expect(properties('vlan: { mode: trunk, native: 5 }')).toEqual([
    { type: 'vlan', mode: 'trunk', nativeVlanId: 5, trunkVlanIds: 'all', pruneVlanIds: [] },
  ]);
});

test('with a security section, what it does not allow is refused', () => {
  expect(properties('security: { allowTeaming: true }')).toEqual([
    {
      type: 'security',
      allowMacSpoofing: false,
      allowIeeePriorityTag: false,
      allowTeaming: true,
      dynamicIpAddressLimit: 0,
      virtualSubnetId: 0,
    },
  ]);
});

test('an ACL rule without direction holds in both, and protocol names become numbers', () => {
  expect(properties('acl: [{ action: deny, protocol: tcp, remotePort: 22 }]')).toEqual([
    {
      type: 'acl',
      rules: [
        { action: 'deny', protocol: 6, remotePort: 22, direction: 'in' },
        { action: 'deny', protocol: 6, remotePort: 22, direction: 'out' },
      ],
    },
  ]);
});

test('an ACL rule names states of connections, and nothing else in their place', () => {
  expect(properties('acl: [{ action: allow, direction: in, state: [new, established] }]')).toEqual([
    { type: 'acl', rules: [{ action: 'allow', direction: 'in', state: ['new', 'established'] }] },
  ]);
  for (const state of ['[]', '[old]', 'new', '[new, new]'])
    expect(() => properties(`acl: [{ action: allow, state: ${state} }]`)).toThrow(/state/);
});

test('both guards are one property, mirroring another', () => {
  expect(properties('dhcpGuard: true, mirror: source')).toEqual([
    { type: 'guard', dhcp: true, router: false },
    { type: 'monitor', mode: 'source' },
  ]);
});
