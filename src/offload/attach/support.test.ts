import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Ability, decideOffload, explainRefusal, type OffloadSupport } from './support.ts';

const ALL = 'CapEff:\t000001ffffffffff\nSeccomp:\t0\n';
const INITIAL = '         0          0 4294967295';
const facts = (changes: Partial<Parameters<typeof explainRefusal>[0]>) => ({
  status: ALL,
  uidMap: INITIAL,
  lockdown: '[none] integrity confidentiality',
  ...changes,
});

describe('a refusal of the bpf system call is explained', () => {
  test.each([
    ['no capability', { status: 'CapEff:\t0000000000000000\n' }, /lacks CAP_BPF and CAP_NET_ADMIN/],
    ['only CAP_NET_ADMIN', { status: 'CapEff:\t0000000000001000\n' }, /lacks CAP_BPF \(/],
    ['CAP_SYS_ADMIN stands for CAP_BPF', { status: 'CapEff:\t0000000000200000\n' }, /lacks CAP_NET_ADMIN \(/],
    ['a user namespace', { uidMap: '0 1000 1' }, /only in a user namespace/],
    ['lockdown', { lockdown: 'none [integrity] confidentiality' }, /locked down \(integrity\)/],
    ['seccomp', { status: ALL.replace('Seccomp:\t0', 'Seccomp:\t2') }, /seccomp filter/],
    ['nothing known', {}, /a security module may/],
    ['files that cannot be read', { status: '', uidMap: '', lockdown: '' }, /lacks CAP_BPF and CAP_NET_ADMIN/],
  ] as const)('%s', (_, changes, sentence) => {
    expect(explainRefusal(facts(changes))).toMatch(sentence);
  });
});

const yes: Ability = { possible: true };
const no: Ability = { possible: false, reason: 'because' };
const all: OffloadSupport = { tc: yes, xdp: yes, pinning: yes, redirectPeer: yes };

describe('the setting and what is possible decide', () => {
  test('everything possible: on, without a word', () => {
    for (const setting of ['auto', 'require'] as const) {
      expect(decideOffload(setting, all)).toEqual({ on: true, message: null, refuse: false, passes: false });
    }
  });

  test('without tc or redirect_peer, auto goes on without offload and says why; require refuses', () => {
    for (const missing of ['tc', 'redirectPeer'] as const) {
      const support = { ...all, [missing]: no };
      const message = 'flows cannot be offloaded: because';
      expect(decideOffload('auto', support)).toEqual({ on: false, message, refuse: false, passes: false });
      expect(decideOffload('require', support)).toEqual({ on: false, message, refuse: true, passes: false });
    }
  });

  test('without xdp or pinning it is on with a warning', () => {
    expect(decideOffload('require', { ...all, xdp: no, pinning: no })).toEqual({
      on: true,
      message: 'ports cannot use xdp: because; a restart interrupts offloaded flows: because',
      refuse: false,
      passes: false,
    });
  });

  test('off is off, whatever is possible; nobody refuses but require', () => {
    const anyAbility = fc.constantFrom(yes, no);
    const anySupport = fc.record({ tc: anyAbility, xdp: anyAbility, pinning: anyAbility, redirectPeer: anyAbility });
    fc.assert(
      fc.property(anySupport, (support) => {
        expect(decideOffload('off', support)).toEqual({ on: false, message: null, refuse: false, passes: false });
        expect(decideOffload('auto', support).refuse).toBe(false);
        const required = decideOffload('require', support);
        expect(required.on).toBe(!required.refuse);
      }),
    );
  });
});
