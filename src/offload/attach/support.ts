/**
 * What of offloading is possible on this machine, asked of the kernel by doing it, and what to make of it for the setting `auto`, `off` or `require`.
 * Neighbours: bpf/'s feature probes; state.ts checks the folder for pins.
 */
import { readFileSync } from 'node:fs';
import {
  ArrayMap,
  haveFeature,
  haveHelper,
  loadProgram,
  PrivilegeError,
  ProgramBuilder,
  requireFeature,
  requireMapType,
  TC,
  UnsupportedError,
  u64,
} from '../../bpf/index.ts';
import { comesOfShortage } from '../../host/index.ts';
import { checkPinFolder, PinningError } from './state.ts';

/** Whether one thing is possible; if not, one sentence says what is missing. */
export type Ability =
  | { readonly possible: true }
  | {
      readonly possible: false;
      readonly reason: string;
      /** It was not possible for want of descriptors or memory: later it may be. */
      readonly passes?: boolean;
    };

/** What is possible. */
export interface OffloadSupport {
  /** Programs at tc, with tables in mapped memory. */
  readonly tc: Ability;
  /** Programs in drivers. A device may still refuse: ask by attaching. */
  readonly xdp: Ability;
  /** Surviving a restart. */
  readonly pinning: Ability;
  /** Handing packets up whole. */
  readonly redirectPeer: Ability;
}

const YES: Ability = { possible: true };

/**
 * Ask the kernel. Takes some milliseconds the first time.
 * @param pinFolder where pins shall be; its ability is checked for this folder
 */
export function offloadSupport(pinFolder = '/sys/fs/bpf'): OffloadSupport {
  const base = ability(() => {
    // First without the flag: a refusal for want of privilege must not look like a kernel that does not know it.
    for (const mappable of [false, true]) {
      if (mappable) requireFeature('mappableArrays');
      ArrayMap.create({ name: 'mr_probe', value: u64, maxEntries: 1, mappable }).close();
    }
    const b = new ProgramBuilder('mr_probe');
    b.return(TC.NEXT);
    loadProgram({ type: 'sched_cls', code: b }).close();
  });
  if (!base.possible) return { tc: base, xdp: base, pinning: base, redirectPeer: base };
  return {
    tc: ability(() => requireFeature('tcxLinks')),
    xdp: ability(() => {
      requireFeature('xdpLinks');
      requireMapType('devmap_hash');
    }),
    pinning: ability(() => {
      if (haveFeature('links')) checkPinFolder(pinFolder);
      else requireFeature('links');
    }),
    redirectPeer: ability(() => {
      if (haveHelper('sched_cls', 'redirect_peer')) return;
      throw new UnsupportedError('bpf_redirect_peer', '5.10', readText('/proc/sys/kernel/osrelease'));
    }),
  };
}

/** How the user wants it. */
export type OffloadSetting = 'auto' | 'off' | 'require';

/** What follows from the setting. */
export interface OffloadDecision {
  /** Offload what can be. */
  readonly on: boolean;
  /** Say this once, as a warning; with `refuse` as the error. */
  readonly message: string | null;
  /** Do not start. */
  readonly refuse: boolean;
  /** What is missing may be there later: ask again. */
  readonly passes: boolean;
}

/** What must be there for offloading at all, and what is lost without it. */
const NEEDED = [
  ['tc', true, 'flows cannot be offloaded'],
  ['redirectPeer', true, 'flows cannot be offloaded'],
  ['xdp', false, 'ports cannot use xdp'],
  ['pinning', false, 'a restart interrupts offloaded flows'],
] as const;

/** Decide by the setting and what is possible. */
export function decideOffload(setting: OffloadSetting, support: OffloadSupport): OffloadDecision {
  if (setting === 'off') return { on: false, message: null, refuse: false, passes: false };
  const sentences: string[] = [];
  let passes = false;
  for (const [name, essential, loss] of NEEDED) {
    const ability = support[name];
    if (ability.possible) continue;
    sentences.push(`${loss}: ${ability.reason}`);
    passes ||= ability.passes === true;
    if (essential) return { on: false, message: sentences[0], refuse: setting === 'require', passes };
  }
  return { on: true, message: sentences.length === 0 ? null : sentences.join('; '), refuse: false, passes };
}

function ability(attempt: () => void): Ability {
  try {
    attempt();
    return YES;
  } catch (error) {
    if (error instanceof PrivilegeError) return { possible: false, reason: explainRefusal(processFacts()) };
    if (error instanceof UnsupportedError || error instanceof PinningError) {
      return { possible: false, reason: error.message };
    }
    const reason = error instanceof Error ? error.message : `${error}`;
    if (comesOfShortage(error)) return { possible: false, reason, passes: true };
    return { possible: false, reason: `eBPF does not work here: ${reason}` };
  }
}

/** What may be behind a refusal of bpf(2). */
export interface ProcessFacts {
  /** /proc/thread-self/status. */
  readonly status: string;
  /** /proc/self/uid_map: tells whether this is the initial user namespace. */
  readonly uidMap: string;
  /** /sys/kernel/security/lockdown; empty where there is none. */
  readonly lockdown: string;
}

/** Capability numbers (linux/capability.h). */
const CAPABILITIES = { CAP_NET_ADMIN: 12n, CAP_SYS_ADMIN: 21n, CAP_BPF: 39n } as const;

/** Why bpf(2) said EPERM, as one sentence. */
export function explainRefusal(facts: ProcessFacts): string {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(facts.status)?.[1] ?? '0'}`);
  const has = (name: keyof typeof CAPABILITIES) => ((effective >> CAPABILITIES[name]) & 1n) === 1n;
  const missing: string[] = [];
  if (!has('CAP_BPF') && !has('CAP_SYS_ADMIN')) missing.push('CAP_BPF');
  if (!has('CAP_NET_ADMIN')) missing.push('CAP_NET_ADMIN');
  if (missing.length > 0) {
    return `the process lacks ${missing.join(' and ')} (run as root, or grant the capabilities)`;
  }
  if (!/^\s*0\s+0\s+4294967295\s*$/.test(facts.uidMap)) {
    return 'the process has its capabilities only in a user namespace, and eBPF needs them in the initial one';
  }
  const lockdown = /\[(integrity|confidentiality)\]/.exec(facts.lockdown)?.[1];
  if (lockdown !== undefined) return `the kernel is locked down (${lockdown}), and this one then refuses eBPF`;
  if (/^Seccomp:\s*[12]/m.test(facts.status)) {
    return 'a seccomp filter forbids the bpf system call (container runtimes set one; allow bpf in its profile)';
  }
  return 'the kernel refuses the bpf system call, though the process has the capabilities (a security module may forbid it)';
}

function processFacts(): ProcessFacts {
  return {
    status: readText('/proc/thread-self/status'),
    uidMap: readText('/proc/self/uid_map'),
    lockdown: readText('/sys/kernel/security/lockdown'),
  };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}
