/**
 * Why tests of Open vSwitch's suite do not pass, told from what they leave. The first line that fits is the cause; what none fits is named by the place in
 * the suite. Neighbour: verdict.ts looks them up.
 */

/** What a cause is about: the datapath under test, the kernel, the machine's programs, or the suite, which has tests for one datapath only. */
export type Whose = 'datapath' | 'kernel' | 'machine' | 'suite';

export interface Cause {
  readonly text: string;
  readonly whose: Whose;
}

/** Where patterns look. */
export interface Left {
  /** The last check with what it said; of a skipped test the line of its source. */
  readonly check: string;
  /** ovs-vswitchd's log. */
  readonly log: string;
}

interface Pattern {
  readonly check: RegExp;
  /** Must fit as well, where it is given. */
  readonly log?: RegExp;
  readonly text: string | ((found: RegExpExecArray) => string);
  readonly whose: Whose;
}

/** Kinds of devices by the kernel's module that makes them. */
const MODULES: Readonly<Record<string, string>> = { vlan: '8021q', bond: 'bonding', gretap: 'ip_gre', gre: 'ip_gre' };

const moduleOf = (kind: string) => MODULES[kind] ?? kind;

/** Of tests that fail. */
const FAILURES: readonly Pattern[] = [
  {
    check: /ip link add .*\btype (\w+)[\s\S]*(?:Unknown device type|not supported)/,
    text: ([, kind]) => `this kernel has no ${moduleOf(kind)}`,
    whose: 'kernel',
  },
  {
    check: /conntrack/,
    log: /Datapath does not support ct_state/,
    text: 'no connection tracking',
    whose: 'datapath',
  },
  {
    check: /^/,
    // What comes over OpenFlow is logged: flows, and packets with their actions.
    log: /Datapath does not support ct_state[\s\S]*(?:CT_DATAPATH_SUPPORT|\bct\()/,
    text: 'no connection tracking',
    whose: 'datapath',
  },
  {
    check: /^/,
    log: /failed to add \S+ as port: Address family not supported/,
    text: 'no such kind of tunnel',
    whose: 'datapath',
  },
];

/** Of tests that are skipped. */
const SKIPS: readonly Pattern[] = [
  { check: /HAVE_TFTP/, text: 'no tftpy', whose: 'machine' },
  { check: /HAVE_(\w+) = no/, text: ([, name]) => `no ${name.toLowerCase()}`, whose: 'machine' },
  { check: /LIBRESWAN|ESP_TRAFFIC/, text: 'no Libreswan', whose: 'machine' },
  {
    check: /FRAG_OVERLAP|CT_DPIF_|LOCAL_STACK|L3L4_CONNTRACK_REASM|OVS_CHECK_(?:MIN_KERNEL|KERNEL_EXCL)/,
    text: 'not for this datapath',
    whose: 'suite',
  },
  { check: /OVS_CHECK_CT_CLEAR/, text: 'no ct_clear', whose: 'datapath' },
];

/** Why a test failed, or null when its logs do not tell. */
export function causeOfFailure(left: Left): Cause | null {
  return firstOf(FAILURES, left);
}

/** Why a test was skipped, or null. @param line of its source, at which it was */
export function causeOfSkip(line: string): Cause | null {
  return firstOf(SKIPS, { check: line, log: '' });
}

function firstOf(patterns: readonly Pattern[], left: Left): Cause | null {
  for (const { check, log, text, whose } of patterns) {
    const found = check.exec(left.check);
    if (found === null || log?.test(left.log) === false) continue;
    return { text: typeof text === 'string' ? text : text(found), whose };
  }
  return null;
}
