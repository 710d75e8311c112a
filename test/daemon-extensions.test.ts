/** Extensions of users: loaded from TypeScript, crashing under traffic, enabled, moved and edited at run time. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DaemonEvent, ExtensionInfo, Status } from '../src/daemon/client.ts';
import { until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.end());

/** A filtering extension that counts packets, and throws when it has seen as many as its configuration says. */
const counter = (reason: string) => `
import { Batch } from 'millrace/net';
import { type Extension, type ExtensionFactory, type ExtensionHandle, RuleError } from 'millrace/switch';

interface Configuration { readonly crashAfter: number }

class Counter implements Extension {
  readonly #handle: ExtensionHandle;
  readonly #seen: { value: number };
  readonly #crashAfter: number;
  constructor(handle: ExtensionHandle, configuration: Configuration) {
    this.#handle = handle;
    this.#seen = handle.counter('seen');
    this.#crashAfter = configuration.crashAfter;
  }
  onIngress(batch: Batch, flags: number): void {
    if (!(batch instanceof Batch)) throw new TypeError('this is another net room than the switch has');
    this.#seen.value += batch.count;
    if (this.#seen.value > this.#crashAfter) throw new Error('${reason}');
    this.#handle.sendIngress(batch, flags);
  }
  status() { return { rules: typeof RuleError, crashAfter: this.#crashAfter }; }
}

const factory: ExtensionFactory<Configuration> = {
  descriptor: { name: 'counter', type: 'filtering', version: '1.0.0' },
  parseConfiguration(value) {
    const { crashAfter = 1e9 } = (value ?? {}) as Partial<Configuration>;
    if (typeof crashAfter !== 'number') throw new Error('crashAfter: must be a number');
    return { crashAfter };
  },
  create: (handle, configuration) => new Counter(handle, configuration),
};
export default factory;
`;

const config = (settings: string) => `
ports: { a: { kind: netdev }, b: { kind: netdev } }
extensions:
  - { name: counter, module: ./counter.ts, config: ${settings} }
  - learning
`;

function twoHosts(): void {
  world.host('a', '10.9.0.1/24');
  world.host('b', '10.9.0.2/24');
}

const extension = (name: string) => world.json<ExtensionInfo[]>('extension', 'list').find((one) => one.name === name);

test("a user's module sees packets, with the classes of the switch itself", () => {
  twoHosts();
  world.file('counter.ts', counter('unused'));
  world.up(config('{ crashAfter: 1000000 }'));
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(extension('counter')).toMatchObject({ type: 'filtering', state: 'running', error: null });
  expect(extension('counter')?.counters.seen).toBeGreaterThan(0);
  expect(world.json<{ status: unknown }>('extension', 'show', 'counter').status).toEqual({
    rules: 'function',
    crashAfter: 1000000,
  });
});

test('an extension that crashes under traffic is disabled and reported, and traffic goes on', async () => {
  twoHosts();
  world.file('counter.ts', counter('forty-two'));
  world.up(config('{ crashAfter: 20 }'));
  const ping = world.spawn('ip', ['netns', 'exec', world.namespace('a'), 'ping', '-i', '0.005', '10.9.0.2']);
  await until('the extension has crashed', () => extension('counter')?.state === 'crashed');
  expect(extension('counter')?.error).toContain('forty-two');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  ping.kill();

  const crashes = world.json<DaemonEvent[]>('events').filter((event) => event.type === 'extension-crashed');
  expect(crashes).toMatchObject([{ subject: 'counter', message: expect.stringContaining('forty-two') }]);
  expect(world.json<Status>('status').extensions[0]).toMatchObject({ name: 'counter', state: 'crashed' });
  expect(world.ok('status')).toContain('counter (crashed: ');
  expect(world.log()).toContain('forty-two');

  // With other settings it starts again.
  world.ok('extension', 'set', 'counter', '{"crashAfter": 21}');
  expect(extension('counter')).toMatchObject({ state: 'running', error: null });
  expect(world.pings('a', '10.9.0.2', 20)).toBe(true);
  await until('the extension has crashed again', () => extension('counter')?.state === 'crashed');

  // Mended, and started again.
  world.file('counter.ts', counter('forty-three').replace('> this.#crashAfter', '> 1e12'));
  world.ok('extension', 'enable', 'counter');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(extension('counter')).toMatchObject({ state: 'running', error: null });
});

test.each([
  ['a promise that nobody waits for', "void Promise.reject(new Error('a promise that nobody waits for'));"],
  [
    'what comes behind a promise',
    "void Promise.resolve().then(() => { throw new Error('what comes behind a promise'); });",
  ],
])('what an extension begins and does not wait for is its own failure: %s', async (reason, begins) => {
  twoHosts();
  const late = `
    onIngress(batch: Batch, flags: number): void {
      if (!(batch instanceof Batch)) throw new TypeError('this is another net room than the switch has');
      if (this.#seen.value === 0) { ${begins} }`;
  world.file(
    'counter.ts',
    counter('unused').replace(/onIngress[\s\S]*?other net room than the switch has'\);/, late.trim()),
  );
  world.up(config('{}'));
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  await until('it is disabled', () => extension('counter')?.state === 'crashed');
  expect(extension('counter')?.error).toContain(reason);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('extensions are disabled, enabled, moved, configured and removed while packets flow', () => {
  twoHosts();
  world.file('counter.ts', counter('unused'));
  world.up(config('{}'));
  world.ok('extension', 'disable', 'counter');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
  expect(extension('counter')?.state).toBe('disabled');
  world.ok('extension', 'enable', 'counter');
  world.ok('extension', 'add', 'filter');
  const order = () => world.json<ExtensionInfo[]>('extension', 'list').map((one) => one.name);
  expect(order()).toEqual(['filter', 'counter', 'learning']);
  world.ok('extension', 'move', 'filter', '2');
  expect(order()).toEqual(['counter', 'filter', 'learning']);
  world.ok('extension', 'add', 'capture', '--position', '3');
  expect(order()).toEqual(['capture', 'counter', 'filter', 'learning']);
  for (const [name, position] of [
    ['filter', '4'],
    ['capture', '2'],
    ['learning', '1'],
  ])
    expect(world.millrace('extension', 'move', name, position).stderr).toContain('capturing extensions stand above');
  world.ok('extension', 'del', 'capture');
  world.ok('extension', 'set', 'counter', 'crashAfter=77');
  expect(world.json<{ status: unknown }>('extension', 'show', 'counter').status).toMatchObject({ crashAfter: 77 });
  const refused = world.millrace('extension', 'set', 'counter', 'crashAfter=x');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain('crashAfter: must be a number');
  expect(world.json<{ status: unknown }>('extension', 'show', 'counter').status).toMatchObject({ crashAfter: 77 });
  world.ok('extension', 'del', 'filter');
  expect(order()).toEqual(['counter', 'learning']);
  // Without the forwarding extension the switch forwards by itself.
  world.ok('extension', 'disable', 'learning');
  expect(world.ok('status')).toContain('none forwards: every frame is flooded');
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('a module that cannot be loaded is refused with its path and what is wrong', () => {
  twoHosts();
  world.up('ports: { a: { kind: netdev }, b: { kind: netdev } }\n');
  for (const [name, text, sentence] of [
    ['syntax.ts', 'export default {', 'cannot load the extension'],
    ['throws.ts', 'throw new Error("too early");', 'too early'],
    ['nothing.ts', 'export const x = 1;', 'is not an extension'],
    [
      'half.ts',
      'export default { descriptor: { name: "x", type: "filtering", version: "1" } };',
      'no "create" function',
    ],
    [
      'kind.ts',
      'export default { descriptor: { name: "x", type: "odd", version: "1" }, create() { return {}; } };',
      '"type"',
    ],
  ] as const) {
    const outcome = world.millrace('extension', 'add', 'mine', '--module', world.file(name, text));
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain(name);
    expect(outcome.stderr).toContain(sentence);
  }
  const unknown = world.millrace('extension', 'add', 'lerning');
  expect([unknown.code, unknown.stderr]).toEqual([4, expect.stringContaining('did you mean "learning"?')]);
  expect(world.pings('a', '10.9.0.2')).toBe(true);
});

test('rules that a command has put in are the running configuration: a file is compared with them, and they are there after a fault', async () => {
  const file = (rules: string) =>
    world.file('wall.yaml', `extensions: [{ name: filter, config: ${rules} }, learning]\n`);
  const must = (...args: string[]) => {
    const { code, stdout, stderr } = world.millrace(...args);
    expect([code, stderr]).toEqual([0, '']);
    return stdout;
  };
  const wall = file('{ default: drop, rules: [{ name: a, action: allow, direction: in }] }');
  world.up(
    `extensions: [{ name: filter, config: { default: drop, rules: [{ name: a, action: allow, direction: in }] } }, learning]\n`,
  );
  expect(must('config', 'diff', wall)).toContain('Nothing would change');
  must('extension', 'run', 'filter', 'replace', '{"default":"allow","rules":[{"name":"b","action":"count"}]}');
  const shown = () => world.json<{ extensions: unknown[] }>('config', 'show').extensions[0];
  const replaced = { name: 'filter', config: { default: 'allow', rules: [{ name: 'b', action: 'count' }] } };
  expect(shown()).toEqual(replaced);
  // What is read or counted anew is no change.
  must('extension', 'run', 'filter', 'reset');
  expect(shown()).toEqual(replaced);
  expect(must('extension', 'disable', 'filter')).toContain('disabled');
  must('extension', 'enable', 'filter');
  expect(must('extension', 'run', 'filter', 'show')).toContain('default:');
  expect(
    world.json<{ status: { rules: { name: string }[] } }>('extension', 'show', 'filter').status.rules[0].name,
  ).toBe('b');
  expect(must('config', 'diff', wall)).toContain('configure extension filter');
  must('up', '-f', wall);
  expect(
    world.json<{ status: { rules: { name: string }[] } }>('extension', 'show', 'filter').status.rules[0].name,
  ).toBe('a');
});
