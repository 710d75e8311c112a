/** The checks of a shape: all that could go wrong is found before the first change, and such packets are punted. */
import { type Address, at, R1, R2, R3, R6, R8, SK_BUFF } from '../../bpf/index.ts';
import { MAXIMUM_PADDING_BYTES } from '../../flow/index.ts';
import { EtherType, IpProtocol } from '../../net/index.ts';
import { network16 } from './order.ts';
import { LAYER3_MAXIMUM, type ShapeWriter } from './writer.ts';

/** IPv6 extension headers that hide the transport header. */
const EXTENSIONS = [
  IpProtocol.HOP_BY_HOP,
  IpProtocol.ROUTING,
  IpProtocol.FRAGMENT,
  IpProtocol.AUTHENTICATION,
  IpProtocol.DESTINATION,
];

const OFFSET_BITS = 0x1fff;

/** A byte of the IP header: in the packet, or in the copy of it on the stack. */
export function header(writer: ShapeWriter, offset: number): Address {
  const { window } = writer;
  return window === null ? at(R8, offset) : at(window.base, window.offset + offset);
}

/** tc: copy the IP header to the stack, unless it is there already. */
export function loadWindow(writer: ShapeWriter, version: 4 | 6): void {
  if (!writer.isTc) {
    writer.layer3();
    return;
  }
  const { b } = writer;
  if (writer.window === null) writer.window = b.stack(40, 8);
  if (writer.windowLoaded) return;
  b.call('skb_load_bytes', R6, R8, writer.window, version === 4 ? 20 : 40);
  writer.mustBeZero();
  writer.windowLoaded = true;
}

/** Write all checks, and make R8 ready. */
export function emitChecks(writer: ShapeWriter): void {
  const { b, shape, emit } = writer;
  const { checks } = shape;
  if (writer.isTc) tagsAndSize(writer);
  if (checks.resumes) emit.mustResume?.(emit.punt);
  if (!shape.needsLayer3) return;
  if (checks.layer3At14) {
    b.load(R1, 'u32', emit.layer3);
    b.jumpIf(R1, '!=', 14, emit.punt);
  }
  if (writer.isTc) {
    b.load(R8, 'u32', emit.layer3);
    b.jumpIf(R8, '>', LAYER3_MAXIMUM, emit.punt);
    b.load(R1, 'u32', at(R6, SK_BUFF.len));
    needs(writer, checks.layer3Bytes);
  } else {
    writer.layer3();
  }
  if (checks.plain === 0 && !checks.notLater && checks.ttlAbove === 0 && !checks.anyTransport) return;
  loadWindow(writer, checks.plain === 6 || (checks.plain === 0 && checks.ttlVersion === 6) ? 6 : 4);
  if (checks.plain === 4) {
    b.load(R3, 'u8', header(writer, 0));
    b.and(R3, 15);
    b.jumpIf(R3, '!=', 5, emit.punt);
  } else if (checks.plain === 6) {
    b.load(R3, 'u8', header(writer, 6));
    if (checks.plainProtocol !== -1) b.jumpIf(R3, '!=', checks.plainProtocol, emit.punt);
    else for (const extension of EXTENSIONS) b.jumpIf(R3, '==', extension, emit.punt);
  }
  if (checks.notLater) {
    b.load(R3, 'u16', header(writer, 6));
    b.jumpIf(R3, '&', network16(OFFSET_BITS), emit.punt);
  }
  if (checks.ttlAbove > 0) {
    b.load(R3, 'u8', header(writer, checks.ttlVersion === 4 ? 8 : 7));
    b.jumpIf(R3, '<=', checks.ttlAbove, emit.punt);
  }
  if (checks.anyTransport) anyTransport(writer);
}

/** The packet has this many bytes from layer 3 on. tc: R1 is its length; xdp: its end is asked for again. Uses R2 and R3. */
function needs(writer: ShapeWriter, bytes: number): void {
  const { b, emit } = writer;
  b.mov(R2, R8);
  b.add(R2, bytes);
  b.jumpIf(R2, '>', R1, emit.punt);
}

/** A transport header is where the protocol says if the IP packet has room for it, and its length fits the frame. Uses R1 to R3. */
function anyTransport(writer: ShapeWriter): void {
  const { b, shape, emit } = writer;
  const version = shape.checks.plain;
  const headerBytes = version === 4 ? 20 : 40;
  b.loadNetwork(R3, 'u16', header(writer, version === 4 ? 2 : 4));
  if (version === 6) b.add(R3, headerBytes);
  else b.jumpIf(R3, '<', headerBytes, emit.punt);
  b.load(R1, 'u32', at(R6, writer.isTc ? SK_BUFF.len : 4));
  b.sub(R1, R8);
  b.sub(R1, R3);
  b.jumpIf(R1, '>', MAXIMUM_PADDING_BYTES, emit.punt);
  const needsTransport = (bytes: number) => () => b.jumpIf(R3, '<', headerBytes + bytes, emit.punt);
  b.load(R2, 'u8', header(writer, version === 4 ? 9 : 6));
  b.switch(R2, [
    [IpProtocol.TCP, needsTransport(20)],
    [IpProtocol.UDP, needsTransport(8)],
    [IpProtocol.ICMPV6, needsTransport(8)],
  ]);
}

/** Tags lie beside the packet where they should, or not at all; and it is no super-packet. */
function tagsAndSize(writer: ShapeWriter): void {
  const { b, shape, emit } = writer;
  const { tags, single } = shape.checks;
  if (single) {
    b.load(R1, 'u32', at(R6, SK_BUFF.gsoSize));
    b.jumpIf(R1, '!=', 0, emit.punt);
  }
  if (tags === 'any') return;
  b.load(R1, 'u32', at(R6, SK_BUFF.vlanPresent));
  b.jumpIf(R1, tags === 'none' ? '!=' : '==', 0, emit.punt);
  if (tags === 'none') return;
  b.load(R1, 'u32', at(R6, SK_BUFF.protocol));
  const types = [network16(EtherType.VLAN), network16(EtherType.SERVICE_VLAN)];
  if (tags === 'one') {
    for (const type of types) b.jumpIf(R1, '==', type, emit.punt);
    return;
  }
  b.block((isTag) => {
    for (const type of types) b.jumpIf(R1, '==', type, isTag);
    b.jump(emit.punt);
  });
}
