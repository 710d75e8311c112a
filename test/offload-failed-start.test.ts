/**
 * A start that fails in its middle leaves the machine as it was: interfaces, programs, pins, the punt channel; and what a killed daemon had
 * left goes on, which is said.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ArrayMap, attachXdp, bytes, loadProgram, ProgramBuilder, queryNetdev, XDP } from '../src/bpf/index.ts';
import type { OffloadInfo } from '../src/daemon/client.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
  for (const host of ['a', 'b']) world.completesChecksums(host);
});
afterEach(() => world.end());

/** What a daemon may have changed, in words: of each interface its state and its programs, then mounts and files. */
function machine(): string[] {
  const middle = NetworkNamespace.byName(world.middle);
  const said: string[] = [];
  try {
    for (const line of must('ip', '-n', world.middle, '-d', '-o', 'link').split('\n')) {
      const [, name, flags, rest] = /^\d+: ([^:@]+)\S* <([^>]*)> (.*)/.exec(line) ?? [];
      if (name === undefined) continue;
      const { xdp, tcx, clsact } = middle.run(() => queryNetdev(name));
      const at = [
        ...(tcx?.ingress.programs ?? []),
        ...(tcx?.egress.programs ?? []),
        ...clsact.ingress,
        ...clsact.egress,
      ];
      const programs = [xdp, ...at].map((program) => program?.name ?? 'none').join(' ');
      const qdisc = /qdisc (\S+)/.exec(rest)?.[1];
      said.push(`${name} ${flags} ${/promiscuity \d+/.exec(rest)?.[0]} ${qdisc}: ${programs}`);
    }
  } finally {
    middle.close();
  }
  for (const host of ['a', 'b']) {
    const text = must('ip', 'netns', 'exec', world.namespace(host), 'ethtool', '-k', 'eth0');
    said.push(`${host}: GRO ${/generic-receive-offload: (\w+)/.exec(text)?.[1]}`);
  }
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const files = readdirSync(world.folder).filter((name) => !/\.(log|yaml|lock|sock)$/.test(name));
  return [...said, ...mounts.filter((line) => line.includes(world.folder)), ...files.sort()];
}

/**
 * Wait until the machine is as it should be: the kernel takes away some of what a process had a moment after it has ended, later on a busy machine, and
 * a start that has failed is told before its process has ended.
 */
async function settlesAt(wanted: readonly string[], why = 'the machine is as before'): Promise<void> {
  const isAsWanted = () => machine().join('\n') === wanted.join('\n');
  await until(why, isAsWanted).catch(() => expect(machine(), why).toEqual(wanted));
}

/** What the machine is once it does not change any more. */
async function settled(): Promise<string[]> {
  let seen = machine();
  await until('nothing changes any more', async () => {
    await new Promise((resume) => setTimeout(resume, 200));
    const before = seen;
    seen = machine();
    return seen.join('\n') === before.join('\n');
  });
  return seen;
}

/** Start with a configuration that fails. @returns what it says */
function fails(config: string): string {
  const { code, stderr } = world.millrace(
    'up',
    '--daemon',
    '--log-level',
    'debug',
    '-f',
    world.file('bad.yaml', config),
  );
  expect(code).not.toBe(0);
  return stderr;
}

async function kill(): Promise<void> {
  const pid = world.pid();
  must('kill', '-9', String(pid));
  await until('the process is gone', () => !existsSync(`/proc/${pid}`));
}

const GO_ON = /the flows that the daemon before left in the kernel go on/;

const BROKEN = 'extensions: [learning, { name: broken, module: ./broken.mjs }]\n';

beforeEach(() => {
  world.file('broken.mjs', 'throw new Error("it is broken")');
  // Flows of theirs alone go on: nobody answers when they ask for each other.
  for (const [host, of, mac] of [
    ['a', '10.7.0.2', '02:57:00:00:00:62'],
    ['b', '10.7.0.1', '02:57:00:00:00:61'],
  ] as const) {
    must('ip', '-n', world.namespace(host), 'neighbour', 'add', of, 'dev', 'eth0', 'lladdr', mac, 'nud', 'permanent');
  }
  // A daemon sets it up.
  must('ip', '-n', world.middle, 'link', 'set', 'dev', 'b', 'down');
});

/** A program of somebody else, for the length of a function. */
async function withForeignXdp(netdev: string, body: () => Promise<void>): Promise<void> {
  const b = new ProgramBuilder('their_xdp');
  b.return(XDP.PASS);
  const program = loadProgram({ type: 'xdp', code: b });
  const middle = NetworkNamespace.byName(world.middle);
  const link = middle.run(() => attachXdp({ program, netdev }));
  middle.close();
  program.close();
  try {
    await body();
  } finally {
    link.close();
  }
}

test('nothing is left of it, and what is of others stays', async () => {
  const before = await settled();
  await withForeignXdp('b', async () => {
    const withOthers = machine();
    expect(withOthers.join()).toMatch(/: their_xdp/);
    const said = fails('ports: { a: { offload: xdp }, b: { offload: xdp }, nowhere: {} }\noffload: require\n');
    expect(said).toMatch(/there is no interface nowhere/);
    expect(said).not.toMatch(GO_ON);
    await settlesAt(withOthers);
  });
  expect(fails(`ports: { a: {}, b: {} }\noffload: require\n${BROKEN}`)).toMatch(/it is broken/);
  await settlesAt(before);
  expect(world.millrace('down').code).toBe(3);
});

test('what a killed daemon has left goes on, whatever was to be otherwise, and the failure says so', async () => {
  const atFirst = await settled();
  const ports = 'ports: { a: { offload: xdp }, b: {} }\noffload: require\n';
  world.up(ports);
  expect(world.pings('a', '10.7.0.2', 3)).toBe(true);
  // What a kill leaves is what the kernel carries by then.
  await until('the kernel carries the flows', () => {
    const { tables } = world.json<OffloadInfo>('offload', 'show');
    return tables.length > 0 && tables.every(({ flows, flowsInKernel }) => flows >= 2 && flowsInKernel === flows);
  });
  await kill();
  const before = await settled();
  for (const [why, bad] of [
    ['a port fails', 'ports: { a: { offload: xdp }, b: {}, nowhere: {} }\noffload: require\n'],
    [
      'others to be otherwise',
      'ports: { a: { promiscuous: false }, b: { offload: off }, nowhere: {} }\noffload: require\n',
    ],
    ['without offload', 'ports: { a: {}, b: {}, nowhere: {} }\noffload: off\n'],
    ['an extension fails', `${ports}${BROKEN}`],
  ] as const) {
    expect(fails(bad), why).toMatch(GO_ON);
    await settlesAt(before, why);
    expect(world.pings('a', '10.7.0.2', 3), why).toBe(true);
  }
  world.up(ports);
  expect(world.pings('b', '10.7.0.1', 3)).toBe(true);
  await until('all was taken over', () => world.log().includes('flows of the former process were taken over'));
  await kill();
  // What does not fit is gone, and that is said, too.
  const links = ArrayMap.open(join(`${world.socket}.bpf`, 'links', 'manifest'), {
    name: '',
    value: bytes(1 << 16),
    maxEntries: 1,
  });
  const text = Buffer.from(links.get(0) ?? []);
  text.write('"links 0', text.indexOf('"links '));
  links.set(0, text);
  links.close();
  const said = fails('ports: { a: {}, nowhere: {} }\noffload: require\n');
  expect(said).toMatch(/is not taken up: its layout is .*, and was removed/);
  expect(said).not.toMatch(GO_ON);
  await settlesAt(atFirst);
});
