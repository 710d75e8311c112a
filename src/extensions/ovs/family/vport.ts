/** Family ovs_vport: ports come, change and go, are counted, and tell their group. */
import type { MessageWriter } from '../../../netlink/index.ts';
import { VportAttribute as A, Command, Family, Feature, Group, PORTS_MAXIMUM, VportType } from '../abi.ts';
import { Attributes, counters, u16At } from '../attributes.ts';
import type { ObjectHeader } from '../device/reply.ts';
import { Errno, OvsError } from '../errors.ts';
import { LOCAL_PORT, type OvsDatapath } from '../ovs-datapath.ts';
import type { Vport } from '../vport.ts';
import { readPids } from './datapath.ts';
import { announce } from './notify.ts';
import { datapathOf, type FamilyRequest, unsupported } from './request.ts';

export const VPORT_ATTRIBUTES = 9;
const NAME_MAXIMUM_BYTES = 15;
/** OVS_TUNNEL_ATTR_DST_PORT. */
const TUNNEL_PORT = 1;

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
        const ports = [...datapath.ports.values()].sort((a, b) => a.number - b.number);
        request.reply.dump(ports, headerOf(datapath, Command.NEW), (writer, port) => write(writer, datapath, port));
        return;
      }
      const { datapath, port } = find(request);
      request.reply.object(headerOf(datapath, Command.NEW), (writer) => write(writer, datapath, port));
      break;
    }
    default:
      unsupported(request);
  }
}

function create(request: FamilyRequest): void {
  const { attributes, state } = request;
  const name = attributes.name(A.NAME, NAME_MAXIMUM_BYTES);
  const type = attributes.u32(A.TYPE);
  const pids = attributes.content(A.UPCALL_PID);
  if (name === null || type === null || pids === null)
    throw new OvsError(Errno.EINVAL, 'name, type or socket is missing');
  const number = attributes.u32(A.PORT_NO);
  if (number !== null && number >= PORTS_MAXIMUM) throw new OvsError(Errno.EFBIG, `port ${number}`);
  const datapath = datapathOf(request);
  if (number !== null && datapath.ports.has(number)) throw new OvsError(Errno.EBUSY, `port ${number} is taken`);
  if (type < VportType.NETDEV || type > VportType.GENEVE) throw new OvsError(Errno.EAFNOSUPPORT, `port type ${type}`);
  for (const other of state.datapaths.values()) {
    if (other.portNamed(name) !== undefined) {
      throw new OvsError(type === VportType.NETDEV ? Errno.EBUSY : Errno.EEXIST, `${name} is a port already`);
    }
  }
  const needsPort = type === VportType.VXLAN || type === VportType.GENEVE;
  const chosen = number ?? datapath.freeNumber();
  if (chosen < 0) throw new OvsError(Errno.EFBIG, 'all port numbers are taken');
  const port = datapath.addPort(chosen, {
    type,
    name,
    upcallPids: readPids(pids),
    destinationPort: needsPort ? readTunnelPort(attributes) : 0,
  });
  tell(request, Command.NEW, datapath, port);
}

/** @throws OvsError EINVAL */
function readTunnelPort(attributes: Attributes): number {
  const options = attributes.required(A.OPTIONS);
  const port = new Attributes(options, 0, options.length, 2).required(TUNNEL_PORT);
  if (port.length < 2) throw new OvsError(Errno.EINVAL, 'UDP port of a tunnel');
  return u16At(port, 0);
}

function change(request: FamilyRequest): void {
  const { attributes } = request;
  const { datapath, port } = find(request);
  const type = attributes.u32(A.TYPE);
  if (type !== null && type !== port.type) throw new OvsError(Errno.EINVAL, 'a port keeps its type');
  const isTunnel = port.type >= VportType.GRE;
  if (attributes.has(A.OPTIONS) && !isTunnel) throw new OvsError(Errno.EOPNOTSUPP, 'this port has no options');
  const pids = attributes.content(A.UPCALL_PID);
  const wanted = pids === null ? port.upcallPids : readPids(pids);
  if (attributes.has(A.OPTIONS) && port.type !== VportType.GRE) port.destinationPort = readTunnelPort(attributes);
  port.upcallPids = wanted;
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
  const number = attributes.u32(A.PORT_NO);
  if (number === null) throw new OvsError(Errno.EINVAL, 'neither name nor number');
  if (number >= PORTS_MAXIMUM) throw new OvsError(Errno.EFBIG, `port ${number}`);
  const datapath = datapathOf(request);
  const port = datapath.ports.get(number);
  if (port === undefined) throw new OvsError(Errno.ENODEV, `no port ${number}`);
  return { datapath, port };
}

function tell(request: FamilyRequest, command: number, datapath: OvsDatapath, port: Vport): void {
  const header = headerOf(datapath, command);
  announce(request, Group.VPORT, header, (writer) => write(writer, datapath, port));
}

function headerOf(datapath: OvsDatapath, command: number): ObjectHeader {
  return { family: Family.VPORT, command, version: 1, interfaceIndex: datapath.interfaceIndex };
}

function write(writer: MessageWriter, datapath: OvsDatapath, port: Vport): void {
  writer.u32(A.PORT_NO, port.number);
  writer.u32(A.TYPE, port.type);
  writer.string(A.NAME, port.name);
  const index = port.device?.interfaceIndex ?? 0;
  if (index !== 0) writer.u32(A.IFINDEX, index);
  const counted = port.device?.counters;
  writer.bytes(
    A.STATS,
    counters(
      counted?.receivedPackets ?? 0,
      counted?.transmittedPackets ?? 0,
      counted?.receivedBytes ?? 0,
      counted?.transmittedBytes ?? 0,
      0,
      0,
      counted?.receiveDropped ?? 0,
      (counted?.transmitDropped ?? 0) + port.unsent,
    ),
  );
  const pids = (datapath.userFeatures & Feature.VPORT_PIDS) !== 0 ? port.upcallPids : port.upcallPids.slice(0, 1);
  writer.bytes(A.UPCALL_PID, new Uint8Array(Uint32Array.from(pids).buffer));
  if (port.destinationPort !== 0) {
    const nest = writer.beginNested(A.OPTIONS);
    writer.u16(TUNNEL_PORT, port.destinationPort);
    writer.endNested(nest);
  }
}
