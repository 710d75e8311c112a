/** Generic netlink's controller, as far as it is asked for the families of Open vSwitch. The shim asks the kernel for others. */
import {
  CONTROLLER_FAMILY,
  ControllerCommand,
  type Message,
  MessageWriter,
  writeFamily,
} from '../../../netlink/index.ts';
import { Family, Group } from '../abi.ts';
import { Attributes } from '../attributes.ts';
import { beginFrame, type Reply } from '../device/reply.ts';
import { Errno, OvsError } from '../errors.ts';

const FAMILIES: Readonly<Record<string, { id: number; version: number; attributes: number; group: number }>> = {
  ovs_datapath: { id: Family.DATAPATH, version: 2, attributes: 9, group: Group.DATAPATH },
  ovs_vport: { id: Family.VPORT, version: 1, attributes: 9, group: Group.VPORT },
  ovs_flow: { id: Family.FLOW, version: 1, attributes: 11, group: Group.FLOW },
  ovs_packet: { id: Family.PACKET, version: 1, attributes: 11, group: 0 },
  ovs_meter: { id: Family.METER, version: 1, attributes: 9, group: Group.METER },
  ovs_ct_limit: { id: Family.CT_LIMIT, version: 1, attributes: 1, group: Group.CT_LIMIT },
};

const NAME = 2;
const ID = 1;

const writer = new MessageWriter();

/** @throws OvsError ENOENT for a family that is not here, EINVAL for a request that names none */
export function handleController(message: Message, reply: Reply): void {
  const { bytes } = message;
  if (bytes.length < 20) throw new OvsError(Errno.EINVAL, 'the headers are cut off');
  if (bytes[16] !== ControllerCommand.GET_FAMILY)
    throw new OvsError(Errno.EOPNOTSUPP, 'only families can be asked for');
  const attributes = new Attributes(bytes, 20, bytes.length, 10);
  const name = attributes.name(NAME, 15);
  const id = attributes.content(ID, 2);
  if (name === null && id === null) throw new OvsError(Errno.EINVAL, 'neither name nor id');
  const found = Object.entries(FAMILIES).find(([each, family]) =>
    name === null ? id !== null && family.id === (id[0] | (id[1] << 8)) : each === name,
  );
  if (found === undefined) throw new OvsError(Errno.ENOENT, `no family ${name ?? 'of that id'}`);
  const [familyName, family] = found;
  beginFrame(writer);
  writer.begin(CONTROLLER_FAMILY, 0, message.sequence, reply.connection.port);
  writeFamily(writer, ControllerCommand.NEW_FAMILY, {
    name: familyName,
    id: family.id,
    version: family.version,
    headerBytes: 4,
    maxAttribute: family.attributes,
    ...(family.group === 0 ? {} : { multicastGroups: [{ id: family.group, name: familyName }] }),
  });
  writer.end();
  reply.connection.reply(writer.view());
}
