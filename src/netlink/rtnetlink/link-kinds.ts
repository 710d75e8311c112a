/**
 * IFLA_LINKINFO: which kind of virtual interface a link is, and the data that belong to the kind. link.ts builds on it and hands in
 * the policy of veth's peer, which is a link again.
 */
import { readU32, writeU32 } from '../bytes.ts';
import { NetlinkError } from '../error.ts';
import { be16, repeated, s32, string, struct, u8, u16, u32 } from '../fields.ts';
import { type Decoding, type Field, type Policy, type PolicyShape, policy, type ValuesOf } from '../policy.ts';
import type { MessageWriter } from '../writer.ts';

const vlanFlags = struct<{ flags: number; mask: number }>(
  'ifla_vlan_flags',
  8,
  (bytes, at) => ({ flags: readU32(bytes, at), mask: readU32(bytes, at + 4) }),
  (bytes, value) => {
    writeU32(bytes, 0, value.flags);
    writeU32(bytes, 4, value.mask);
  },
);

/** IFLA_VLAN_*. */
const vlanPolicy = policy({
  id: [1, u16({ max: 4095 })],
  flags: [2, vlanFlags],
  /** EtherType of the tag: 0x8100 or 0x88a8. */
  protocol: [5, be16()],
});

/** IFLA_BR_*. Times are in hundredths of a second, as the kernel keeps them for users. */
const bridgePolicy = policy({
  forwardDelayCentiseconds: [1, u32()],
  helloTimeCentiseconds: [2, u32()],
  maxAgeCentiseconds: [3, u32()],
  ageingTimeCentiseconds: [4, u32()],
  /** 0: no spanning tree; 1: the kernel's; 2: a daemon's. */
  stpState: [5, u32()],
  priority: [6, u16()],
  vlanFiltering: [7, u8({ max: 1 })],
  vlanProtocol: [8, be16()],
  /** Link-local groups 01:80:c2:00:00:0X that are forwarded, one bit each. */
  groupForwardMask: [9, u16()],
  multicastSnooping: [23, u8({ max: 1 })],
  vlanDefaultPvid: [39, u16({ max: 4095 })],
});

/** IFLA_TUN_*. Read only: TUN and TAP interfaces are made through /dev/net/tun. */
const tunPolicy = policy({
  owner: [1, u32()],
  group: [2, u32()],
  /** 1: TUN, 2: TAP. */
  type: [3, u8()],
  packetInformation: [4, u8()],
  vnetHeader: [5, u8()],
  persistent: [6, u8()],
  multiQueue: [7, u8()],
  queues: [8, u32()],
  disabledQueues: [9, u32()],
});

/** IFLA_MACVLAN_*, which macvtap shares. */
const macvlanPolicy = policy({
  /** 1 private, 2 VEPA, 4 bridge, 8 passthru, 16 source. */
  mode: [1, u32()],
  flags: [2, u16()],
});

export type VlanData = ValuesOf<typeof vlanPolicy>;
export type BridgeData = ValuesOf<typeof bridgePolicy>;
export type TunData = ValuesOf<typeof tunPolicy>;
export type MacvlanData = ValuesOf<typeof macvlanPolicy>;

/** Kind of a link with its data. Only the member that fits the kind is there. */
export interface LinkInfo<Peer> {
  /** 'veth', 'bridge', 'vlan', 'dummy', 'tun', ... */
  kind?: string | undefined;
  /** Kind of the master that this link is a port of: 'bridge', 'bond', ... */
  portKind?: string | undefined;
  vlan?: VlanData | undefined;
  bridge?: BridgeData | undefined;
  tun?: TunData | undefined;
  macvlan?: MacvlanData | undefined;
  /** The other end of a veth that is to be made. The kernel never tells it: see linkedIndex of the link. */
  peer?: Peer | undefined;
  /** Data of any other kind, as they are. */
  data?: Uint8Array | undefined;
}

/** Reads and writes the peer of a veth, a link with header and attributes. */
export interface PeerCodec<Peer> {
  read(input: Decoding, start: number, end: number): Peer;
  write(writer: MessageWriter, peer: Peer): void;
}

/** Where an attribute's content is, to be read once the kind is known. */
interface Span {
  start: number;
  end: number;
}

const span: Field<Span> = {
  nested: true,
  read: (_input, start, end) => ({ start, end }),
  write() {
    throw new NetlinkError('a span is only read');
  },
};

const INFO_KIND = 1;
const INFO_DATA = 2;
const INFO_PORT_KIND = 4;
const VETH_INFO_PEER = 1;

const infoPolicy = policy({
  kind: [INFO_KIND, string()],
  data: [INFO_DATA, span],
  portKind: [INFO_PORT_KIND, string()],
});

/** The attribute IFLA_LINKINFO. */
export function linkInfo<Peer>(peerCodec: PeerCodec<Peer>): Field<LinkInfo<Peer>> {
  const peerField: Field<Peer> = {
    nested: false,
    read: (input, start, end) => peerCodec.read(input, start, end),
    write(writer, type, peer) {
      const nest = writer.beginNested(type, false);
      peerCodec.write(writer, peer);
      writer.endNested(nest);
    },
  };
  const vethPolicy = policy({ peer: [VETH_INFO_PEER, peerField] });

  return {
    nested: true,
    read(input, start, end) {
      const { kind, data, portKind } = infoPolicy.decodeNest(input, start, end);
      const info: LinkInfo<Peer> = { kind, portKind };
      if (data === undefined) return info;
      input.path.push('data');
      switch (kind) {
        case 'vlan':
          info.vlan = vlanPolicy.decodeNest(input, data.start, data.end);
          break;
        case 'bridge':
          info.bridge = bridgePolicy.decodeNest(input, data.start, data.end);
          break;
        case 'tun':
          info.tun = tunPolicy.decodeNest(input, data.start, data.end);
          break;
        case 'macvlan':
        case 'macvtap':
          info.macvlan = macvlanPolicy.decodeNest(input, data.start, data.end);
          break;
        case 'veth':
          info.peer = vethPolicy.decodeNest(input, data.start, data.end).peer;
          break;
        default:
          info.data = input.bytes.slice(data.start, data.end);
      }
      input.path.pop();
      return info;
    },
    write(writer, type, info) {
      const nest = writer.beginNested(type);
      if (info.kind !== undefined) writer.string(INFO_KIND, info.kind);
      if (info.vlan !== undefined) writeData(writer, vlanPolicy, info.vlan);
      else if (info.bridge !== undefined) writeData(writer, bridgePolicy, info.bridge);
      else if (info.tun !== undefined) writeData(writer, tunPolicy, info.tun);
      else if (info.macvlan !== undefined) writeData(writer, macvlanPolicy, info.macvlan);
      else if (info.peer !== undefined) writeData(writer, vethPolicy, { peer: info.peer });
      else if (info.data !== undefined) writer.bytes(INFO_DATA | 0x8000, info.data);
      if (info.portKind !== undefined) writer.string(INFO_PORT_KIND, info.portKind);
      writer.endNested(nest);
    },
  };
}

function writeData<Shape extends PolicyShape>(
  writer: MessageWriter,
  kindPolicy: Policy<Shape>,
  values: Parameters<Policy<Shape>['encode']>[1],
): void {
  const nest = writer.beginNested(INFO_DATA);
  kindPolicy.encode(writer, values);
  writer.endNested(nest);
}

/** IFLA_PROP_LIST: further names that a link answers to. */
export const propertyPolicy = policy({ alternativeNames: [53, repeated(string({ maxBytes: 127 }))] });

/** IFLA_XDP_*: the XDP program on a link. */
export const xdpPolicy = policy({
  /** Descriptor of the program to attach, or -1 to detach. */
  descriptor: [1, s32()],
  /** 0 none, 1 driver, 2 generic, 3 hardware, 4 several. */
  attached: [2, u8()],
  flags: [3, u32()],
  programId: [4, u32()],
});
