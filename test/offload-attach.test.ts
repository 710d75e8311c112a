/**
 * Programs on interfaces, and what of them outlives the process: place among others, exchange under traffic, pins and their adoption,
 * interfaces that go, and what the kernel does not let us do.
 */
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  ArrayMap,
  attachClsact,
  attachTcx,
  attachXdp,
  bytes,
  loadProgram,
  MapMismatchError,
  type Program,
  ProgramBuilder,
  queryTcx,
  queryXdp,
  Receiver,
  TC,
  u32,
  u64,
  XDP,
} from '../src/bpf/index.ts';
import { inUserNamespace, openDescriptors, openPacketSocket, openTap } from '../src/host/index.ts';
import { type Attachment, attach, foreignPrograms, type Hook } from '../src/offload/attach/hook.ts';
import { OffloadState, PinningError, removeOffloadState } from '../src/offload/attach/state.ts';
import { offloadSupport } from '../src/offload/attach/support.ts';
import { xdpTarget } from '../src/offload/attach/xdp-target.ts';
import { BpfFileSystem } from './support/bpf-fs.ts';
import { type Host, Lab } from './support/index.ts';

let lab = new Lab();
let pins: BpfFileSystem;
beforeEach(() => {
  pins = new BpfFileSystem();
});
afterEach(() => {
  lab.close();
  lab = new Lab();
  pins.close();
});

function program(type: 'sched_cls' | 'xdp', name: string, verdict: number): Program {
  const b = new ProgramBuilder(name);
  b.return(verdict);
  return lab.own(loadProgram({ type, code: b }));
}

const tcProgram = (name: string, verdict: number = TC.NEXT): Program => program('sched_cls', name, verdict);
const xdpProgram = (name: string, verdict: number = XDP.PASS): Program => program('xdp', name, verdict);

/** Two hosts that can ping each other. */
function wired(): { a: Host; b: Host } {
  const [a, b] = lab.hosts(2);
  lab.veth(a, 'eth0', b, 'eth0');
  a.address('eth0', '10.0.0.1/24');
  b.address('eth0', '10.0.0.2/24');
  return { a, b };
}

function attached(host: Host, given: Program, hook: Hook, netdev = 'eth0'): Attachment {
  const result = host.inside(() => attach({ program: given, netdev, hook }));
  if (result.attachment === null) throw new Error(result.reason);
  return lab.own(result.attachment);
}

const namesAt = (host: Host, direction: 'ingress' | 'egress', netdev = 'eth0') =>
  host.inside(() => queryTcx(netdev, direction))?.programs.map(({ name }) => name);

describe('one program on one interface', () => {
  test('at tc it stands behind those of others, which are named, and before the isolation of the port', () => {
    const { a } = wired();
    a.inside(() => {
      lab.own(attachTcx({ program: tcProgram('first_other'), netdev: 'eth0', direction: 'ingress' }));
      lab.own(openPacketSocket({ interfaceName: 'eth0', receive: false }));
      lab.own(attachTcx({ program: tcProgram('late_other'), netdev: 'eth0', direction: 'ingress' }));
    });
    const ours = attached(a, tcProgram('millrace_tc'), 'tc-ingress');
    expect(namesAt(a, 'ingress')).toEqual(['first_other', 'millrace_tc', 'millrace_drop', 'late_other']);
    expect(ours.foreign).toMatchObject([{ name: 'first_other', hook: 'tc-ingress' }]);
    ours.detach();
    ours.detach();
    expect(namesAt(a, 'ingress')).toEqual(['first_other', 'millrace_drop', 'late_other']);
  });

  test('all programs of others on an interface are listed, ours and the isolation left out', () => {
    const { a } = wired();
    const ours = attached(a, tcProgram('millrace_tc'), 'tc-ingress');
    const listed = a.inside(() => {
      lab.own(attachXdp({ program: xdpProgram('their_xdp'), netdev: 'eth0' }));
      lab.own(attachTcx({ program: tcProgram('their_egress'), netdev: 'eth0', direction: 'egress' }));
      lab.own(openPacketSocket({ interfaceName: 'eth0', receive: false }));
      const filter = attachClsact({ program: tcProgram('their_filter'), netdev: 'eth0', direction: 'ingress' });
      const found = foreignPrograms('eth0', [ours.programId]);
      filter.detach();
      return found;
    });
    expect(listed.map(({ name, hook }) => `${name} at ${hook}`)).toEqual([
      'their_xdp at xdp',
      'their_filter at clsact-ingress',
      'their_egress at tc-egress',
    ]);
  });

  test('a port that is opened behind our own program warns of others only', () => {
    const { a, b } = wired();
    attached(a, tcProgram('millrace_tc'), 'tc-ingress');
    attached(b, tcProgram('their_tc'), 'tc-ingress');
    const open = (host: Host) =>
      lab.own(host.inside(() => openPacketSocket({ interfaceName: 'eth0', receive: false })));
    expect(open(a).warnings).toEqual([]);
    expect(open(b).warnings).toEqual([expect.stringMatching(/eBPF programs .* of others/)]);
    expect(namesAt(a, 'ingress')).toEqual(['millrace_tc', 'millrace_drop']);
  });

  test.each(['tc-ingress', 'tc-egress', 'xdp'] as const)('%s: it is exchanged for another and detached', (hook) => {
    const { a, b } = wired();
    const [pass, drop] =
      hook === 'xdp'
        ? [xdpProgram('millrace_pass'), xdpProgram('millrace_drops', XDP.DROP)]
        : [tcProgram('millrace_pass'), tcProgram('millrace_drops', TC.SHOT)];
    const attachment = attached(b, pass, hook);
    expect(a.ping('10.0.0.2')).toBe(true);
    expect(attachment.replace(drop)).toBe(true);
    expect(attachment.programId).toBe(drop.info().id);
    expect(a.ping('10.0.0.2', { count: 1, timeoutMs: 200 })).toBe(false);
    attachment.detach();
    expect(a.ping('10.0.0.2')).toBe(true);
  });

  test('at xdp a program of somebody else is left alone, and named in the refusal', () => {
    const { a } = wired();
    a.inside(() => lab.own(attachXdp({ program: xdpProgram('their_xdp'), netdev: 'eth0' })));
    const result = a.inside(() => attach({ program: xdpProgram('millrace_xdp'), netdev: 'eth0', hook: 'xdp' }));
    expect(result).toMatchObject({ attachment: null, code: 'attach-conflict', foreign: [{ name: 'their_xdp' }] });
    expect('reason' in result && result.reason).toMatch(/their_xdp/);
    expect(a.inside(() => queryXdp('eth0'))?.name).toBe('their_xdp');
  });

  test('a driver without XDP, and a driver that cannot now, refuse; nothing runs on skbs instead', () => {
    const { a, b } = wired();
    a.ip('link add quiet type ifb');
    const given = xdpProgram('millrace_xdp');
    const onIfb = a.inside(() => attach({ program: given, netdev: 'quiet', hook: 'xdp' }));
    expect(onIfb).toMatchObject({ attachment: null, code: 'unsupported' });
    b.ip('link set eth0 mtu 9000');
    const onLong = a.inside(() => attach({ program: given, netdev: 'eth0', hook: 'xdp' }));
    expect(onLong).toMatchObject({ attachment: null, code: 'system', foreign: [] });
    expect(onLong).toHaveProperty(
      'reason',
      expect.stringMatching(/other end of the veth eth0 has an MTU of 9000 bytes/),
    );
    expect(a.inside(() => queryXdp('eth0'))).toBeUndefined();
  });

  test('an interface of another namespace is refused, one that goes away is noticed', () => {
    const { a } = wired();
    const given = tcProgram('millrace_tc');
    a.ip('link add onlyhere type ifb');
    for (const hook of ['tc-ingress', 'xdp'] as const) {
      const wanted = hook === 'xdp' ? xdpProgram('millrace_xdp') : given;
      for (const netdev of ['onlyhere', 999_999]) {
        const result = attach({ program: wanted, netdev, hook });
        expect(result).toMatchObject({ attachment: null, code: 'no-interface', foreign: [] });
        expect('reason' in result && result.reason).toMatch(/in this network namespace/);
      }
    }
    const attachment = attached(a, given, 'tc-ingress', 'onlyhere');
    expect(attachment.present).toBe(true);
    a.ip('link delete onlyhere');
    expect(attachment.present).toBe(false);
    expect(attachment.replace(tcProgram('millrace_2'))).toBe(false);
    attachment.detach();
    expect(attachment.present).toBe(false);
  });
});

const counters = { name: 'counters', value: u64, maxEntries: 4, mappable: true };

describe('what is pinned', () => {
  /** A state with a map, a program and a link, given up by its process. */
  function left(a: Host, layout = 'layout 1'): string {
    const folder = pins.at('switch');
    const state = OffloadState.create({ folder, layout });
    const map = lab.own(ArrayMap.create(counters));
    const given = tcProgram('millrace_tc');
    const generation = state.begin();
    generation.pinMap('counters', map);
    generation.pinProgram('tc', given);
    a.inside(() =>
      expect(state.attach({ program: given, netdev: 'eth0', hook: 'tc-ingress' }).attachment).not.toBeNull(),
    );
    generation.commit({ ports: [1, 2] });
    map.set(2, 77n);
    state.close();
    state.close();
    return folder;
  }

  test('is found again with its maps, programs, links and data, and goes when it is removed', () => {
    const { a } = wired();
    const folder = left(a);
    expect(namesAt(a, 'ingress')).toEqual(['millrace_tc']);
    const found = a.inside(() => OffloadState.adopt({ folder, layout: 'layout 1' }));
    if (found.state === null) throw new Error(`${found.reason}`);
    const { state, data } = found;
    expect(data).toEqual({ ports: [1, 2] });
    expect(state.generation).toBe(1);
    const map = lab.own(state.openMap('counters', (path) => ArrayMap.open(path, counters)));
    expect(map.get(2)).toBe(77n);
    expect(() => state.openMap('counters', (path) => ArrayMap.open(path, { ...counters, value: u32 }))).toThrow(
      MapMismatchError,
    );
    expect(() => state.openMap('../x', (path) => path)).toThrow(RangeError);
    const running = lab.own(state.openProgram('tc', 'sched_cls')).info().id;
    const [attachment] = state.attachments;
    expect(attachment).toMatchObject({ hook: 'tc-ingress', programId: running, present: true, foreign: [] });
    expect(state.find(attachment.ifindex, 'tc-ingress')).toBe(attachment);
    state.removeAll();
    expect(existsSync(folder)).toBe(false);
    expect(namesAt(a, 'ingress')).toEqual([]);
    expect(OffloadState.adopt({ folder, layout: 'layout 1' })).toEqual({ state: null, reason: null });
  });

  test('with another layout, a damaged or a missing manifest is not taken up, but taken off, with the reason', () => {
    const { a } = wired();
    const adopt = (folder: string) => OffloadState.adopt({ folder, layout: 'layout 2' });
    expect(adopt(left(a))).toMatchObject({ state: null, reason: expect.stringMatching(/layout is "layout 1"/) });
    expect(namesAt(a, 'ingress')).toEqual([]);

    const folder = left(a, 'layout 2');
    const manifest = ArrayMap.open(`${folder}/manifest`, { name: '', value: manifestBytes(), maxEntries: 1 });
    const bytes = manifest.get(0) ?? new Uint8Array();
    for (const [at, reason] of [
      [4, /version/],
      [12, /damaged/],
      [18, /damaged/],
      [0, /before it was complete/],
    ] as const) {
      left(a, 'layout 2');
      const damaged = bytes.slice();
      damaged.fill(0xff, at, at + 4);
      const again = ArrayMap.open(`${folder}/manifest`, { name: '', value: manifestBytes(), maxEntries: 1 });
      again.set(0, damaged);
      again.close();
      expect(adopt(folder)).toMatchObject({ state: null, reason: expect.stringMatching(reason) });
      expect(namesAt(a, 'ingress')).toEqual([]);
    }
    manifest.close();
    mkdirSync(pins.at('switch/links'), { recursive: true });
    expect(adopt(folder)).toMatchObject({ state: null, reason: expect.stringMatching(/no manifest/) });
    expect(existsSync(folder)).toBe(false);
  });

  test('of a generation that was not committed is dropped by the next one that is, and the former is in use', () => {
    const { a } = wired();
    const folder = left(a);
    const first = a.inside(() => OffloadState.adopt({ folder, layout: 'layout 1' }));
    if (first.state === null) throw new Error('none');
    const next = first.state.begin();
    const newer = tcProgram('millrace_newer');
    next.pinMap('counters', lab.own(ArrayMap.create(counters)));
    next.pinProgram('tc', newer);
    expect(first.state.attachments[0].replace(newer)).toBe(true);
    first.state.close(); // As if killed before the commit.
    expect(readdirSync(folder).sort()).toEqual(['1', '2', 'links', 'manifest']);

    const second = a.inside(() => OffloadState.adopt({ folder, layout: 'layout 1' }));
    if (second.state === null) throw new Error('none');
    expect(second.state.generation).toBe(1);
    // A link runs its program, whose tail-call map must not go before it is exchanged.
    expect(readdirSync(folder).sort()).toEqual(['1', '2', 'links', 'manifest']);
    const map = lab.own(second.state.openMap('counters', (path) => ArrayMap.open(path, counters)));
    expect(map.get(2)).toBe(77n);
    // The link goes on with the newer program, and the caller can tell.
    expect(second.state.attachments[0].programId).toBe(newer.info().id);
    second.state.begin().abandon();
    second.state.begin().commit('third');
    expect(readdirSync(folder).sort()).toEqual(['3', 'links', 'manifest']);
    second.state.note({ more: true });
    expect(() => second.state.note('x'.repeat(70_000))).toThrow(/room/);
    second.state.close();
    expect(OffloadState.adopt({ folder, layout: 'layout 1' })).toMatchObject({ data: { more: true } });
    expect(removeOffloadState(folder)).toBe(true);
    expect(removeOffloadState(folder)).toBe(false);
  });

  test('on interfaces that are gone is swept, while we run and when we come back', () => {
    const { a } = wired();
    const folder = left(a);
    a.ip('link add extra type ifb');
    const found = a.inside(() => OffloadState.adopt({ folder, layout: 'layout 1' }));
    if (found.state === null) throw new Error('none');
    const { state } = found;
    const given = tcProgram('millrace_3');
    const request = { program: given, netdev: 'extra', hook: 'tc-ingress' } as const;
    const { attachment } = a.inside(() => state.attach(request));
    if (attachment === null) throw new Error('refused');
    a.ip('link delete extra');
    expect(state.sweep()).toEqual([attachment.ifindex]);
    expect(state.find(attachment.ifindex, 'tc-ingress')).toBeUndefined();
    a.ip('link delete eth0');
    expect(readdirSync(`${folder}/links`).length).toBe(1);
    state.close();
    const again = OffloadState.adopt({ folder, layout: 'layout 1' });
    expect(again.state?.attachments).toEqual([]);
    expect(readdirSync(`${folder}/links`)).toEqual([]);
    again.state?.removeAll();
  });

  test('leaves no descriptor open in this process, however often it is left and taken up', () => {
    const { a } = wired();
    const folder = left(a);
    const before = openDescriptors();
    for (let round = 0; round < 5; round += 1) {
      const found = a.inside(() => OffloadState.adopt({ folder, layout: 'layout 1' }));
      if (found.state === null) throw new Error(`${found.reason}`);
      expect(found.state.attachments.length).toBe(1);
      found.state.close();
      expect(OffloadState.adopt({ folder, layout: 'layout 1' }).state?.close()).toBeUndefined();
    }
    expect(openDescriptors()).toBe(before);
    removeOffloadState(folder);
    expect(openDescriptors()).toBe(before);
  });

  test('needs a bpf file system', () => {
    const options = { folder: '/tmp/millrace-no-bpf-here', layout: '' };
    expect(() => OffloadState.create(options)).toThrow(PinningError);
    expect(() => OffloadState.create(options)).toThrow(/mount -t bpf/);
    expect(existsSync(options.folder)).toBe(false);
  });
});

test.each(['tc-ingress', 'xdp'] as const)(
  '%s: of 200,000 packets none is lost while the process is killed, another takes over and exchanges the program',
  async (hook) => {
    const [a, b, middle] = lab.hosts(3);
    lab.veth(middle, 'sa', a, 'eth0');
    lab.veth(middle, 'sb', b, 'eth0');
    const folder = pins.at('switch');
    const script = fileURLToPath(new URL('support/hold-offload.ts', import.meta.url));
    const hold = () =>
      lab.start('nsenter', [
        `--net=/run/netns/${middle.name}`,
        ...[process.execPath, '--import', 'jiti/register', script, folder, hook, 'sa', 'sb'],
      ]);
    const first = hold();
    await first.printed(/ready 1/, 20_000);
    const receiver = lab.own(b.inside(() => new Receiver({ netdev: 'eth0', flows: 16 })));
    const count = 240_000;
    const send = fileURLToPath(new URL('support/send-frames.ts', import.meta.url));
    const paced = { netdev: 'eth0', count, pps: 60_000, flows: 16, batch: 16, prepare: true };
    const sending = lab.start('nsenter', [
      `--net=/run/netns/${a.name}`,
      ...[process.execPath, '--import', 'jiti/register', send, JSON.stringify(paced)],
    ]);
    while (receiver.received < 20_000) await new Promise((resolve) => setTimeout(resolve, 20));
    await first.stop('SIGKILL');
    const killedAt = receiver.received;
    const second = hold();
    await second.printed(/took over 2 of generation 1, current: true, \{"ports":\["sa","sb"\]\}/, 20_000);
    const takenOverAt = receiver.received;
    const sent = Number(/sent (\d+)/.exec(await sending.result())?.[1]);
    await second.printed(/counted [1-9]/);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(sent).toBe(count);
    expect(receiver.read()).toMatchObject({ received: count, lost: 0, late: 0 });
    // The process died, and the other came, while packets passed.
    expect(killedAt).toBeLessThan(takenOverAt);
    expect(takenOverAt).toBeLessThan(count);
    await second.stop('SIGKILL');
    removeOffloadState(folder);
    expect(namesAt(middle, 'ingress', 'sa')).toEqual([]);
    expect(middle.inside(() => queryXdp('sa'))).toBeUndefined();
  },
  60_000,
);

test('what is possible here is found, and what is not is said in one sentence', async () => {
  const support = offloadSupport(pins.path);
  expect(support).toEqual({
    tc: { possible: true },
    xdp: { possible: true },
    pinning: { possible: true },
    redirectPeer: { possible: true },
  });
  expect(offloadSupport('/tmp').pinning).toMatchObject({
    possible: false,
    reason: expect.stringMatching(/mount -t bpf/),
  });
  const script = fileURLToPath(new URL('support/say-support.ts', import.meta.url));
  const [command, ...args] = inUserNamespace([process.execPath, '--import', 'jiti/register', script]);
  const said = await lab.start(command, args).result();
  expect(said).toMatch(/only in a user namespace/);
  const stripped = ['--bounding-set=-bpf,-sys_admin', process.execPath, '--import', 'jiti/register', script];
  expect(await lab.start('setpriv', stripped).result()).toMatch(/lacks CAP_BPF \(run as root/);
});

/** The manifest's value. */
function manifestBytes() {
  return bytes(1 << 16);
}

test('whether XDP can send to a port is decided by its driver, for a veth by the peer, where it can be arranged and undone', () => {
  const [far, middle] = lab.hosts(2);
  lab.veth(middle, 'port', far, 'eth0');
  const decide = (netdev: string, arrange: boolean) => middle.inside(() => xdpTarget(netdev, arrange));
  const gro = () => /generic-receive-offload: (\w+)/.exec(far.run('ethtool', ['-k', 'eth0']))?.[1];
  expect(decide('port', false)).toMatchObject({
    possible: false,
    reason: expect.stringMatching(new RegExp(`neither GRO nor .*ip netns exec ${far.name} ethtool -K eth0 gro on`)),
  });
  // What the port itself has does not matter.
  middle.run('ethtool', ['-K', 'port', 'gro', 'on']);
  attached(middle, xdpProgram('millrace_xdp'), 'xdp', 'port');
  expect(decide('port', false).possible).toBe(false);

  const arranged = decide('port', true);
  expect(arranged.possible).toBe(true);
  expect(gro()).toBe('on');
  expect(decide('port', false)).toEqual({ possible: true, undo: undefined });
  if (arranged.possible) middle.inside(() => arranged.undo?.());
  expect(gro()).toBe('off');
  far.inside(() => lab.own(attachXdp({ program: xdpProgram('their_xdp'), netdev: 'eth0' })));
  expect(decide('port', false)).toEqual({ possible: true, undo: undefined });

  middle.ip('link add other type ifb');
  expect(decide('other', true)).toMatchObject({ possible: false, reason: expect.stringMatching(/driver of other/) });
  expect(() => decide('nowhere', true)).toThrow(/nowhere/);
  const tap = middle.inside(() => lab.own(openTap({ interfaceName: 'tap0' })));
  expect(decide(tap.interfaceName, false)).toEqual({ possible: true, undo: undefined });
});
