/**
 * The layer check: imports only go down, and every room is entered by its index.ts.
 * The table is the one of docs/architecture.md, "Rooms".
 */
const rooms = {
  net: [],
  netlink: [],
  host: ['net', 'netlink'],
  bpf: ['host', 'netlink'],
  flow: ['connections', 'net'],
  decide: ['flow', 'net'],
  tunnels: ['flow', 'net'],
  switch: ['decide', 'flow', 'connections', 'net'],
  tables: ['net'],
  connections: ['net'],
  offload: ['bpf', 'host', 'flow', 'tables', 'connections', 'net'],
  keeper: ['offload', 'bpf', 'host', 'flow', 'netlink', 'net'],
  'extensions/learning': ['switch', 'flow', 'net'],
  'extensions/capture': ['switch', 'flow', 'net'],
  'extensions/filter': ['switch', 'flow', 'net'],
  'extensions/ovs': ['switch', 'flow', 'connections', 'tunnels', 'netlink', 'net'],
  daemon: [
    'net',
    'netlink',
    'host',
    'bpf',
    'decide',
    'switch',
    'flow',
    'tables',
    'connections',
    'offload',
    'keeper',
    'extensions/learning',
    'extensions/capture',
    'extensions/filter',
    'extensions/ovs',
  ],
  cli: ['daemon', 'bpf'],
  lab: ['daemon', 'host', 'net'],
};

/** What only tests use may import rigs of any room, as tests do. */
const rigs = ['/testing/', '/testing\\.ts$', '/testing-[^/]+\\.ts$'];

const layers = Object.entries(rooms).map(([room, below]) => ({
  name: `layer-${room.replace('/', '-')}`,
  comment: `${room}/ may import ${below.length === 0 ? 'no other room' : below.join(', ')}`,
  severity: 'error',
  from: { path: `^src/${room}/`, pathNot: rigs },
  to: { path: '^src/', pathNot: [`^src/${room}/`, ...below.map((name) => `^src/${name}/`)] },
}));

module.exports = {
  forbidden: [
    ...layers,
    {
      name: 'door',
      comment: "A room's index.ts is its only door",
      severity: 'error',
      from: { path: '^src/((?:extensions/)?[^/]+)/', pathNot: rigs },
      to: {
        path: '^src/',
        pathNot: [
          '^src/$1/',
          '^src/(?:extensions/)?[^/]+/index\\.ts$',
          '^src/[^/]+/client\\.ts$',
          '^src/host/sys/index\\.ts$',
        ],
      },
    },
    {
      name: 'rigs-are-for-tests',
      comment: 'What ships imports nothing that only tests use',
      severity: 'error',
      from: { path: '^src/', pathNot: rigs },
      to: { path: rigs },
    },
    {
      name: 'bpf-stands-on-system-calls-alone',
      comment: 'bpf/ is a library of its own: of host/ it takes the system calls only',
      severity: 'error',
      from: { path: '^src/bpf/' },
      to: { path: '^src/host/', pathNot: '^src/host/sys/index\\.ts$' },
    },
    {
      name: 'no-circular',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '\\.test\\.ts$' },
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.json'] },
  },
};
