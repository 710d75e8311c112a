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

/** Where a pattern looks: at the last check with what it said (of a skipped test the line of its source), or at ovs-vswitchd's log. */
export interface Place {
  readonly check: string;
  readonly log: string;
}

interface Pattern {
  readonly where: keyof Place;
  readonly pattern: RegExp;
  readonly text: string | ((found: RegExpExecArray) => string);
  readonly whose: Whose;
}

/** Kinds of devices by the kernel's module that makes them. */
const MODULES: Readonly<Record<string, string>> = { vlan: '8021q', bond: 'bonding', gretap: 'ip_gre', gre: 'ip_gre' };

const moduleOf = (kind: string) => MODULES[kind] ?? kind;

/** Of tests that fail. */
export const CAUSES: readonly Pattern[] = [
  {
    where: 'check',
    pattern: /ip link add .*\btype (\w+)[\s\S]*(?:Unknown device type|not supported)/,
    text: ([, kind]) => `this kernel has no ${moduleOf(kind)}`,
    whose: 'kernel',
  },
  {
    where: 'log',
    pattern:
      /ioctl\(SIOCGIFINDEX\) on \w+_sys_\w* device failed|failed to add \S+ as port: Address family not supported/,
    text: 'no tunnels',
    whose: 'datapath',
  },
];

/** Of tests that are skipped. */
export const SKIP_CAUSES: readonly Pattern[] = [
  { where: 'check', pattern: /HAVE_TFTP/, text: 'no tftpy', whose: 'machine' },
  { where: 'check', pattern: /HAVE_(\w+) = no/, text: ([, name]) => `no ${name.toLowerCase()}`, whose: 'machine' },
  { where: 'check', pattern: /LIBRESWAN|ESP_TRAFFIC/, text: 'no Libreswan', whose: 'machine' },
  {
    where: 'check',
    pattern: /FRAG_OVERLAP|CT_DPIF_|LOCAL_STACK|L3L4_CONNTRACK_REASM|OVS_CHECK_(?:MIN_KERNEL|KERNEL_EXCL)/,
    text: 'not for this datapath',
    whose: 'suite',
  },
  { where: 'check', pattern: /OVS_CHECK_CT_CLEAR/, text: 'no ct_clear', whose: 'datapath' },
];
