/** Network namespaces as the room makes and enters them, checked with `ip netns`; and what an unprivileged user can do. */
import { afterEach, expect, test } from 'vitest';
import {
  createNamespace,
  deleteNamespace,
  inUserNamespace,
  NetworkNamespace,
  namespaceNames,
  userNamespaceProblem,
  withRouteClient,
} from '../src/host/index.ts';
import { Lab, run } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

const linkNames = () => withRouteClient((client) => client.links().map((link) => link.name));

test('a named namespace is made and deleted as `ip netns` does it', () => {
  const name = `${lab.prefix}n`;
  createNamespace(name);
  lab.onClose(() => deleteNamespace(name));
  expect(namespaceNames()).toContain(name);
  expect(run('ip', ['netns', 'list'])).toContain(name);
  expect(run('ip', ['netns', 'exec', name, 'ip', '-o', 'link'])).toMatch(/^1: lo:/);
  expect(() => createNamespace(name)).toThrow(/cannot make network namespace .*EEXIST/);
  expect(deleteNamespace(name)).toBe(true);
  expect(deleteNamespace(name)).toBe(false);
  expect(run('ip', ['netns', 'list'])).not.toContain(name);
  expect(() => createNamespace('../x')).toThrow(RangeError);
});

test('one is found by what /proc says of it, as long as a name or a process leads to it', () => {
  const [a] = lab.hosts(1);
  const link = a.run('readlink', ['/proc/self/ns/net']).trim();
  const there = lab.own(NetworkNamespace.byName(a.name));
  const found = NetworkNamespace.find(link);
  expect(found?.identity).toBe(there.identity);
  found?.close();
  expect(NetworkNamespace.find('net:[1]')).toBeNull();
});

test('one that `ip netns` made is entered and left, also when the function throws', () => {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'left', b, 'right');
  const home = lab.own(NetworkNamespace.current());
  const there = lab.own(NetworkNamespace.byName(a.name));
  expect(there.run(linkNames)).toContain('left');
  expect(linkNames()).not.toContain('left');
  expect(() =>
    there.run(() => {
      throw new Error('on purpose');
    }),
  ).toThrow('on purpose');
  expect(() => there.run(async () => 1)).toThrow(TypeError);
  const now = lab.own(NetworkNamespace.current());
  expect(now.identity).toBe(home.identity);
  expect(there.identity).not.toBe(home.identity);
});

test('namespaces nest, and are found by path and by process', async () => {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'left', b, 'right');
  const byPath = lab.own(NetworkNamespace.byPath(`/run/netns/${a.name}`));
  const sleeper = b.start('sh', ['-c', 'echo inside; exec sleep 30']);
  await sleeper.printed(/inside/);
  const ofProcess = lab.own(NetworkNamespace.byPid(sleeper.pid));
  const [before, inner, after] = byPath.run(() => [linkNames(), ofProcess.run(linkNames), linkNames()]);
  expect(before).toContain('left');
  expect(inner).toContain('right');
  expect(after).toContain('left');
  expect(() => NetworkNamespace.byName('no-such-namespace')).toThrow(/ENOENT.*ip netns/);
  expect(() => NetworkNamespace.byPid(0x3fffffff)).toThrow(/ENOENT/);
  await sleeper.stop();
});

test('a namespace lives as long as a reference to it, also when its name is deleted', () => {
  const name = `${lab.prefix}r`;
  createNamespace(name);
  const reference = NetworkNamespace.byName(name);
  deleteNamespace(name);
  expect(reference.run(linkNames)).toEqual(['lo']);
  reference.close();
});

test('a user without capabilities over networks takes over ports in namespaces of his own', () => {
  expect(userNamespaceProblem()).toBeNull();
  const script = new URL('support/hold-port.ts', import.meta.url).pathname;
  const commands = `ip link add port type veth peer name far && ip link set far up && exec ${process.execPath} --import jiti/register ${script} port --once`;
  const [program, ...args] = inUserNamespace(['sh', '-c', commands]);
  // CAP_SETFCAP alone is what the kernel asks of uid 0 before it may be root in a user namespace; other users need nothing.
  const output = run('setpriv', ['--inh-caps', '-all', '--bounding-set', '-all,+setfcap', program, ...args]);
  expect(output).toMatch(/^held none .*EPERM/);
});
