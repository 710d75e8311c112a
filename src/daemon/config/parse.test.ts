import { expect, test } from 'vitest';
import { normalise, toFile } from './model.ts';
import { ConfigError, parseConfig } from './parse.ts';
import { configSchema } from './schema.ts';

function issuesOf(text: string): string[] {
  try {
    parseConfig(text, 'millrace.yaml');
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n');
    throw error;
  }
  return [];
}

test('an empty file is a switch with the learning extension and no ports', () => {
  const config = parseConfig('', 'millrace.yaml');
  expect(config.ports.size).toBe(0);
  expect(config.extensions.map((extension) => extension.name)).toEqual(['learning']);
});

test('the device of a netdev port is the name of the port unless stated', () => {
  const config = parseConfig('ports: { a: { kind: netdev }, b: { kind: netdev, device: eth7 } }', 'millrace.yaml');
  expect(config.ports.get('a')?.device).toBe('a');
  expect(config.ports.get('b')?.device).toBe('eth7');
});

test('a port of which nothing is said is the interface of its name', () => {
  const config = parseConfig('ports:\n  eth1:\n  eth2: {}\n', 'millrace.yaml');
  for (const name of ['eth1', 'eth2']) expect(config.ports.get(name)).toMatchObject({ kind: 'netdev', device: name });
});

test('an unknown key is reported at its place with the key that was probably meant', () => {
  expect(issuesOf('ports:\n  web:\n    kind: netdev\n    securty: {}\n')).toEqual([
    'millrace.yaml:4:5: ports.web.securty: unknown key; did you mean "security"?',
  ]);
});

test('what the schema does not see is told beside what it refuses', () => {
  const text =
    'offload: maybe\nwhat: 1\nports: { a: { kind: x }, b: {}, c: { device: b } }\nfdb: { static: [{ mac: "02:00:00:00:00:01", port: d }, { mac: "02:00:00:00:00:02", port: a }] }\n';
  expect(issuesOf(text).map((issue) => issue.replace(/^millrace.yaml:(\d+):\d+: ([\w.[\]]+):.*/, '$1 $2'))).toEqual([
    '1 offload',
    '2 what',
    '3 ports.a.kind',
    '3 ports.c',
    '4 fdb.static[0].port',
  ]);
});

test('issues are told in the order of their places', () => {
  const places = issuesOf('fdb: { zzz: 1 }\noffload: maybe\nports: { a: { kind: x } }\n').map(
    (issue) => issue.split(': ')[0],
  );
  expect(places).toEqual(['millrace.yaml:1:8', 'millrace.yaml:2:10', 'millrace.yaml:3:21']);
});

test('an unknown key far from all others is reported with those that are allowed', () => {
  expect(issuesOf('fdb:\n  zzz: 1\n')).toEqual([
    'millrace.yaml:2:3: fdb.zzz: unknown key; allowed here: ageingSeconds, maximum, static',
  ]);
});

test('a value out of range is reported with the range and what was found', () => {
  expect(issuesOf('ports:\n  web: { kind: netdev, vlan: { mode: access, id: 5000 } }\n')).toEqual([
    'millrace.yaml:2:50: ports.web.vlan.id: must be a whole number from 1 to 4094 (a VLAN id), found 5000',
  ]);
});

test('there may be as many connections as programs in the kernel reach, and no more', () => {
  expect(parseConfig('connections: { maximum: 3050400 }\n', 'millrace.yaml').connections.maximum).toBe(3_050_400);
  expect(issuesOf('connections: { maximum: 3050401 }\n')).toEqual([
    'millrace.yaml:1:25: connections.maximum: must be a whole number from 1 to 3050400, found 3050401',
  ]);
});

test('a missing key is reported at the mapping that lacks it', () => {
  expect(issuesOf('ports:\n  web:\n    vlan: { mode: access }\n')).toEqual([
    'millrace.yaml:3:11: ports.web.vlan.id: must be a whole number from 1 to 4094 (a VLAN id); it is not given',
  ]);
});

test('every issue of a file is reported at once', () => {
  expect(issuesOf('daemon: { logLevel: loud }\nports: { a: { kind: x } }\nextensions: [learnin]\n')).toHaveLength(3);
  expect(issuesOf('extensions: [learnin]\n')[0]).toContain('did you mean "learning"?');
});

test('YAML errors have a place too', () => {
  expect(issuesOf('ports:\n  a: {kind: memory}\n  a: {kind: memory}\n')).toEqual([
    'millrace.yaml:3:3: Map keys must be unique',
  ]);
});

test('aliases that multiply are refused, not expanded', () => {
  const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 12; i += 1) {
    lines.push(
      `a${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(', ')}]`,
    );
  }
  expect(issuesOf(lines.join('\n'))[0]).toMatch(/^millrace.yaml:1:1: .*alias/i);
});

test('a text of a megabyte that is all of one kind is answered while one waits', () => {
  const texts = {
    anchors: '&a '.repeat(300_000),
    tags: '!a '.repeat(300_000),
    commas: `[${','.repeat(800_000)}`,
    dashes: '- '.repeat(400_000),
    questions: '? '.repeat(400_000),
    keys: Array.from({ length: 100_000 }, (_, i) => `k${i}:\n`).join(''),
    'the same key': 'a:\n'.repeat(200_000),
    'unknown extensions': `extensions:\n${' - zzz\n'.repeat(50_000)}`,
  };
  for (const [kind, text] of Object.entries(texts)) {
    const issues = issuesOf(text);
    expect(issues.length, kind).toBeGreaterThan(0);
    expect(issues.length, kind).toBeLessThanOrEqual(101);
  }
}, 120_000);

test('a file that nests without end is refused in a sentence', () => {
  for (const text of ['['.repeat(50_000), `ports: ${'{ a: '.repeat(80)}1${' }'.repeat(80)}`])
    expect(issuesOf(text).at(-1)).toContain('the configuration nests deeper than 64 levels');
});

test('two ports cannot have one interface', () => {
  expect(issuesOf('ports:\n  a: { kind: netdev }\n  b: { kind: netdev, device: a }\n')).toEqual([
    'millrace.yaml:3:3: ports.b: the interface a belongs to port "a" already',
  ]);
});

test('a static entry must name a port that exists', () => {
  const text = 'ports: { web: { kind: memory } }\nfdb:\n  static: [{ mac: "02:00:00:00:00:01", port: wed }]\n';
  expect(issuesOf(text)).toEqual([
    'millrace.yaml:3:46: fdb.static[0].port: there is no port "wed"; did you mean "web"?',
  ]);
});

test('relative paths are taken from the folder of the file', () => {
  const config = parseConfig('ports: { p: { kind: pcap, read: in.pcap } }', '/etc/millrace/millrace.yaml');
  expect(config.ports.get('p')).toMatchObject({ read: '/etc/millrace/in.pcap' });
});

test('a module that is not there is reported', () => {
  expect(issuesOf('extensions: [{ name: mine, module: ./nowhere.ts }]')[0]).toMatch(
    /^millrace.yaml:1:36: extensions\[0\].module: there is no file .*nowhere.ts$/,
  );
});

test('a configuration that is written back means the same', () => {
  const text = `
daemon: { logLevel: debug }
ports:
  a: { kind: netdev, device: eth0, vlan: { mode: trunk, allowed: [10, 20-30], native: 1 } }
  b: { kind: tap, mtuBytes: 1400, acl: [{ action: deny, remoteIp: 10.0.0.0/8 }] }
  c: { kind: memory, dhcpGuard: true }
extensions: [filter, { name: learning, enabled: false, config: { ports: { a: { limit: 3 } } } }]
fdb: { ageingSeconds: 10, static: [{ mac: "02:00:00:00:00:0A", vlan: 10, port: a }] }
`;
  const config = parseConfig(text, '/x/millrace.yaml');
  const again = normalise(configSchema.parse(toFile(config)), (path) => path);
  expect(again).toEqual(config);
});

test('settings of extensions that come with Millrace are checked, each flaw at its place', () => {
  const rules = `extensions:
  - name: filter
    config:
      default: deny
      rules: []
  - { name: learning, config: { ageingSeconds: long } }
  - name: ovs
    config: { sockt: /tmp/x }
`;
  expect(issuesOf(rules)).toEqual([
    'millrace.yaml:4:16: extensions[0].config.default: must be allow or drop',
    expect.stringMatching(/^millrace.yaml:6:48: extensions\[1\]\.config\.ageingSeconds: /),
    expect.stringMatching(/^millrace.yaml:8:13: extensions\[2\]\.config: .*sockt/),
  ]);
  const states = `extensions:
  - name: filter
    config:
      rules:
        - { name: a, action: allow, state: established }
        - { name: a, action: allow, state: [estab] }
        - { name: b, action: allow, etherType: arp, state: [new] }
`;
  expect(issuesOf(states)).toEqual([
    'millrace.yaml:5:44: extensions[0].config.rules[0].state: must be a list of new, established, related, invalid',
    'millrace.yaml:6:45: extensions[0].config.rules[1].state[0]: is no state; there are new, established, related, invalid',
    expect.stringMatching(/^millrace.yaml:7:11: extensions\[0\]\.config\.rules\[2\]: can never match: /),
  ]);
  expect(issuesOf('extensions: [{ name: filter, module: /nowhere/filter.ts, config: { default: 7 } }]')).toEqual([
    expect.stringContaining('there is no file'),
  ]);
});
