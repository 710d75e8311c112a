/** Family ovs_vport: ports come, change and go, are counted, and tell their group. */
import type { MessageWriter } from '../../../netlink/index.ts';
import {
  VportAttribute as A,
  Command,
  Family,
  Feature,
  Group,
  NAME_MAXIMUM_BYTES,
  UpcallStatistic,
  VportType,
} from '../abi.ts';
import { Attributes, beginNest, counters, u16At } from '../attributes.ts';
import type { PseudoDevice } from '../device/pseudo-device.ts';
import type { ObjectHeader } from '../device/reply.ts';
import { Errno, OvsError } from '../errors.ts';
import type { OvsDatapath } from '../ovs-datapath.ts';
import { LOCAL_PORT, toOvsPort } from '../port-number.ts';
import { isTunnelType } from '../tunnel/tunnels.ts';
import type { Vport } from '../vport.ts';
import { readPids } from './datapath.ts';
import { announce, announceUnasked } from './notify.ts';
import { datapathOf, type FamilyRequest, unsupported } from './request.ts';

export const VPORT_ATTRIBUTES = 10;
/** OVS_TUNNEL_ATTR_*. */
const TUNNEL_PORT = 1;
const TUNNEL_EXTENSION = 2;
/** OVS_VXLAN_EXT_GBP, and the last that there is, OVS_VXLAN_EXT_GPE: another header, which is not known here. */
const VXLAN_GROUP_POLICY = 1;
const VXLAN_EXTENSIONS = 8;

/** @throws OvsError */
export function handleVport(request: FamilyRequest): void {
  switch (request.command) {
    case Command.NEW:
      create(request);
      break;
    case Command.SET:
      change(request);
      break;
    case Command.DEL: {
      const { datapath, port } = find(request);
      if (port.number === LOCAL_PORT) throw new OvsError(Errno.EINVAL, 'the local port goes with its datapath');
      tell(request, Command.DEL, datapath, port);
      datapath.removePort(port);
      break;
    }
    case Command.GET: {
      if (request.isDump) {
        const datapath = datapathOf(request);
        const header = headerOf(datapath, Command.GET);
        request.reply.dump(portsOf(request, datapath), header, (writer, port) => writeVport(writer, datapath, port));
        return;
      }
      const { datapath, port } = find(request);
      request.reply.object(headerOf(datapath, Command.GET), (writer) => writeVport(writer, datapath, port));
      break;
    }
    default:
      unsupported(request);
  }
}

/** Ports by number, as of the beginning of the dump, but for those that go meanwhile. @throws OvsError ENODEV when the datapath has gone */
function* portsOf(request: FamilyRequest, datapath: OvsDatapath): Generator<Vport> {
  const { interfaceIndex, state } = request;
  const numbers = [...datapath.ports.keys()].sort((a, b) => a - b);
  for (const number of numbers) {
    const port = datapath.ports.get(number);
    if (port !== undefined) yield port;
    if (state.datapaths.get(interfaceIndex) !== datapath) throw new OvsError(Errno.ENODEV, 'the datapath has gone');
  }
}

function create(request: FamilyRequest): void {
  const { attributes, state } = request;
  const name = attributes.name(A.NAME, NAME_MAXIMUM_BYTES);
  const type = attributes.u32(A.TYPE);
  const pids = attributes.content(A.UPCALL_PID);
  if (name === null || type === null || pids === null)
    throw new OvsError(Errno.EINVAL, 'name, type or socket is missing');
  // 0 is the local port's number, and stands for any.
  const asked = attributes.u32(A.PORT_NO) ?? 0;
  if (attributes.has(A.IFINDEX)) throw new OvsError(Errno.EOPNOTSUPP, 'the kernel chooses the index');
  const number = toOvsPort(asked);
  const datapath = datapathOf(request);
  if (number !== 0 && datapath.ports.has(number)) throw new OvsError(Errno.EBUSY, `port ${number} is taken`);
  if (type !== VportType.NETDEV && type !== VportType.INTERNAL && !isTunnelType(type)) {
    throw new OvsError(Errno.EAFNOSUPPORT, `port type ${type}`);
  }
  for (const other of state.datapaths.values()) {
    if (other.portNamed(name) !== undefined) {
      throw new OvsError(type === VportType.NETDEV ? Errno.EBUSY : Errno.EEXIST, `${name} is a port already`);
    }
  }
  const chosen = number !== 0 ? number : datapath.freeNumber();
  const tunnel = readTunnelOptions(attributes, type);
  for (const other of state.datapaths.values()) {
    if (isTunnelType(type) && other.hasTunnel(type, tunnel.destinationPort)) {
      throw new OvsError(Errno.EEXIST, `port ${tunnel.destinationPort} has its tunnel already`);
    }
  }
  const port = datapath.addPort(chosen, {
    type,
    name,
    upcallPids: readPids(pids),
    ...tunnel,
  });
  tell(request, Command.NEW, datapath, port);
}

/** @throws OvsError EINVAL, EAFNOSUPPORT */
function readTunnelOptions(attributes: Attributes, type: number): { destinationPort: number; groupPolicy: boolean } {
  if (!isTunnelType(type) || type === VportType.GRE) return { destinationPort: 0, groupPolicy: false };
  const content = attributes.required(A.OPTIONS);
  const options = new Attributes(content, 0, content.length, 2);
  const port = options.required(TUNNEL_PORT);
  if (port.length !== 2 || u16At(port, 0) === 0) throw new OvsError(Errno.EINVAL, 'transport port of a tunnel');
  const extension = type === VportType.VXLAN ? options.content(TUNNEL_EXTENSION) : null;
  let groupPolicy = false;
  if (extension !== null) {
    if (extension.length < 4) throw new OvsError(Errno.EINVAL, 'extension of a tunnel');
    const extensions = new Attributes(extension, 0, extension.length, VXLAN_EXTENSIONS);
    for (let other = VXLAN_GROUP_POLICY + 1; other <= VXLAN_EXTENSIONS; other += 1) {
      // Packets of such a tunnel would be read wrongly.
      if (extensions.has(other)) throw new OvsError(Errno.EAFNOSUPPORT, `extension ${other} of VXLAN`);
    }
    groupPolicy = extensions.has(VXLAN_GROUP_POLICY);
  }
  return { destinationPort: u16At(port, 0), groupPolicy };
}

function change(request: FamilyRequest): void {
  const { attributes } = request;
  const { datapath, port } = find(request);
  const type = attributes.u32(A.TYPE);
  if (type !== null && type !== port.type) throw new OvsError(Errno.EINVAL, 'a port keeps its type');
  if (attributes.has(A.OPTIONS)) throw new OvsError(Errno.EOPNOTSUPP, 'a port keeps its options');
  const pids = attributes.content(A.UPCALL_PID);
  if (pids !== null) port.upcallPids = readPids(pids);
  tell(request, Command.SET, datapath, port);
}

/** By name, wherever it is, or by number in the header's datapath. @throws OvsError ENODEV, EFBIG, EINVAL, EOPNOTSUPP */
function find(request: FamilyRequest): { datapath: OvsDatapath; port: Vport } {
  const { attributes, state, interfaceIndex } = request;
  if (attributes.has(A.IFINDEX)) throw new OvsError(Errno.EOPNOTSUPP, 'ports are not found by interface index');
  const name = attributes.name(A.NAME, NAME_MAXIMUM_BYTES);
  if (name !== null) {
    for (const datapath of state.datapaths.values()) {
      const port = datapath.portNamed(name);
      if (port === undefined) continue;
      if (interfaceIndex !== 0 && interfaceIndex !== datapath.interfaceIndex) break;
      return { datapath, port };
    }
    throw new OvsError(Errno.ENODEV, `no port ${name}`);
  }
  const asked = attributes.u32(A.PORT_NO);
  if (asked === null) throw new OvsError(Errno.EINVAL, 'neither name nor number');
  const number = toOvsPort(asked);
  const datapath = datapathOf(request);
  const port = datapath.ports.get(number);
  if (port === undefined) throw new OvsError(Errno.ENODEV, `no port ${number}`);
  return { datapath, port };
}

function tell(request: FamilyRequest, command: number, datapath: OvsDatapath, port: Vport): void {
  const header = headerOf(datapath, command);
  announce(request, Group.VPORT, header, (writer) => writeVport(writer, datapath, port));
}

/** Tell the group that a port has gone although no program asked for it. It must still be whole. */
export function announceGone(device: PseudoDevice, datapath: OvsDatapath, port: Vport): void {
  announceUnasked(device, Group.VPORT, headerOf(datapath, Command.DEL), (writer) => writeVport(writer, datapath, port));
}

function headerOf(datapath: OvsDatapath, command: number): ObjectHeader {
  return { family: Family.VPORT, command, version: 1, interfaceIndex: datapath.interfaceIndex };
}

function writeVport(writer: MessageWriter, datapath: OvsDatapath, port: Vport): void {
  const { device } = port;
  writer.u32(A.PORT_NO, port.number);
  writer.u32(A.TYPE, port.type);
  writer.string(A.NAME, port.name);
  const index = device?.interfaceIndex ?? 0;
  if (index !== 0) writer.u32(A.IFINDEX, index);
  const namespace = device?.namespaceId ?? null;
  if (namespace !== null) writer.s32(A.NETNSID, namespace);
  const counted = port.counters;
  writer.bytes(
    A.STATS,
    counters(
      counted.receivedPackets,
      counted.transmittedPackets,
      counted.receivedBytes,
      counted.transmittedBytes,
      0,
      0,
      counted.receiveDropped,
      counted.transmitDropped + port.unsent,
    ),
  );
  const upcalls = beginNest(writer, A.UPCALL_STATS);
  writer.bytes(UpcallStatistic.SUCCESS, counters(port.upcallsSent));
  writer.bytes(UpcallStatistic.FAIL, counters(port.upcallsLost));
  writer.endNested(upcalls);
  const pids = (datapath.userFeatures & Feature.VPORT_PIDS) !== 0 ? port.upcallPids : port.upcallPids.slice(0, 1);
  writer.bytes(A.UPCALL_PID, new Uint8Array(Uint32Array.from(pids).buffer));
  if (port.destinationPort !== 0) {
    const nest = beginNest(writer, A.OPTIONS);
    writer.u16(TUNNEL_PORT, port.destinationPort);
    if (port.groupPolicy) {
      const extension = beginNest(writer, TUNNEL_EXTENSION);
      writer.flag(VXLAN_GROUP_POLICY);
      writer.endNested(extension);
    }
    writer.endNested(nest);
  }
}
