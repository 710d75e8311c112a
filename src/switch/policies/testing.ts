/** For tests only: random policies of ports, and frames of a world so small that rules and packets meet. */

/** A source of random numbers. */
interface RandomSource {
  /** From 0 up to, but without, `limit`. */
  below(limit: number): number;
  /** True once in `times`. */
  once(times: number): boolean;
  pick<T>(of: readonly T[]): T;
}

/** What a frame is made of: see FrameKind of offload/. */
interface FrameKind {
  readonly tags: number;
  readonly snap: boolean;
  readonly network: string;
  readonly protocol: number;
  readonly fragment: number;
  readonly options: boolean;
}

const MACS: readonly (readonly number[])[] = [1, 2, 3, 4].map((n) => [2, 0, 0, 0, 0, n]);
const ADDRESSES4 = [
  [10, 0, 0, 1],
  [10, 0, 0, 2],
  [10, 0, 1, 1],
  [192, 168, 0, 1],
  [0, 0, 0, 0],
  [224, 0, 0, 9],
];
const ADDRESSES6 = [
  [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
  [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  new Array<number>(16).fill(0),
];
const PORTS = [22, 67, 68, 80, 546, 547];
const VLANS = [0, 5, 6, 7];

const macText = (mac: readonly number[]) => mac.map((byte) => byte.toString(16).padStart(2, '0')).join(':');

/** One of the properties that a port may have, or that it has not. */
export function randomProperty(random: RandomSource): { readonly type: string; readonly property: object | null } {
  const type = random.pick(['vlan', 'vlan', 'security', 'acl', 'acl', 'acl', 'guard', 'binding', 'isolation', 'qos']);
  return { type, property: random.once(3) ? null : propertyOf(random, type) };
}

function propertyOf(random: RandomSource, type: string): object {
  switch (type) {
    case 'vlan':
      return { type, ...vlan(random) };
    case 'security':
      return {
        type,
        allowMacSpoofing: random.once(2),
        macAddresses: MACS.filter(() => random.once(2)).map(macText),
        allowIeeePriorityTag: random.once(2),
        virtualSubnetId: random.once(6) ? 7 : 0,
        dynamicIpAddressLimit: random.once(6) ? 2 : 0,
      };
    case 'acl':
      return { type, rules: Array.from({ length: random.below(6) }, () => rule(random)) };
    case 'guard':
      return { type, dhcp: random.once(2), router: random.once(2) };
    case 'binding':
      return {
        type,
        addresses: [
          { ip: '10.0.0.0/24' },
          { ip: '10.0.1.1', mac: macText(random.pick(MACS)) },
          { ip: '2001:db8::/64', mac: macText(random.pick(MACS)) },
        ].filter(() => random.once(2)),
        dhcp: random.once(2),
        nd: random.once(2),
      };
    case 'isolation':
      return {
        type,
        mode: random.pick(['vlan', 'nativeVirtualSubnet']),
        allowUntagged: random.once(2),
        defaultIsolationId: random.pick([5, 6]),
      };
    default:
      return { type, maxRateBps: 1e12, burstBytes: 1e9 };
  }
}

function vlan(random: RandomSource): object {
  switch (random.below(4)) {
    case 0:
      return { mode: 'access', vlanId: random.pick([5, 6]) };
    case 1:
      return {
        mode: 'trunk',
        nativeVlanId: random.pick([0, 5]),
        trunkVlanIds: random.pick(['all', [5, 6], [7]]),
        pruneVlanIds: random.once(3) ? [6] : [],
      };
    case 2:
      return { mode: 'private', privateMode: 'promiscuous', primaryVlanId: 5, secondaryVlanIds: [6, 7] };
    default:
      return random.once(2)
        ? { mode: 'private', privateMode: 'isolated', primaryVlanId: 5, secondaryVlanId: 6 }
        : { mode: 'private', privateMode: 'community', primaryVlanId: 5, secondaryVlanId: 7 };
  }
}

function rule(random: RandomSource): object {
  const maybe = (name: string, value: unknown) => (random.once(3) ? { [name]: value } : {});
  const ip = () => random.pick(['10.0.0.0/24', '10.0.0.1', '10.0.1.0/31', '2001:db8::/32', '2001:db8::1', '0.0.0.0/0']);
  return {
    direction: random.pick(['in', 'out']),
    action: random.pick(['allow', 'deny', 'meter', 'meter']),
    weight: random.below(3),
    ...maybe('localMac', macText(random.pick(MACS))),
    ...maybe('remoteMac', macText(random.pick(MACS))),
    ...maybe('localIp', ip()),
    ...maybe('remoteIp', ip()),
    ...maybe('protocol', random.pick([6, 17, 1, 58, 132])),
    ...maybe('localPort', random.pick([...PORTS, 0])),
    ...maybe('remotePort', random.pick(PORTS)),
  };
}

/** Write addresses, tags and ports of the small world into a frame of a kind. */
export function settle(random: RandomSource, frame: number[], kind: FrameKind): void {
  const write = (at: number, bytes: readonly number[]) => {
    bytes.forEach((byte, i) => {
      if (at + i < frame.length) frame[at + i] = byte;
    });
  };
  write(0, random.once(4) ? [0x33, 0x33, 0, 0, 0, 1] : random.pick(MACS));
  const mac = random.pick(MACS);
  write(6, mac);
  for (let tag = 0; tag < kind.tags; tag += 1) {
    const tci = random.pick(VLANS) | (random.once(3) ? random.below(8) << 13 : 0) | (random.once(8) ? 0x1000 : 0);
    write(14 + tag * 4, [tci >> 8, tci & 0xff]);
  }
  const layer3 = 14 + kind.tags * 4 + (kind.snap ? 8 : 0);
  if (kind.network === 'arp') {
    write(layer3 + 8, random.once(4) ? random.pick(MACS) : mac);
    write(layer3 + 14, random.pick(ADDRESSES4));
  }
  if (kind.network !== 'ipv4' && kind.network !== 'ipv6') return;
  const isIpv4 = kind.network === 'ipv4';
  write(layer3 + (isIpv4 ? 12 : 8), random.pick(isIpv4 ? ADDRESSES4 : ADDRESSES6));
  write(layer3 + (isIpv4 ? 16 : 24), random.pick(isIpv4 ? ADDRESSES4 : ADDRESSES6));
  const hasPorts = kind.protocol === 6 || kind.protocol === 17 || kind.protocol === 132;
  if (!hasPorts || kind.options || kind.fragment !== 0) return;
  for (const at of [0, 2]) {
    const port = random.pick(PORTS);
    write(layer3 + (isIpv4 ? 20 : 40) + at, [port >> 8, port & 0xff]);
  }
}
