/** Parsing, layer 4: ports, TCP flags, ICMP type and code. R3 is the protocol, R9 the address of layer 3; R7 and R8 bound the packet. */
import { at, type Label, R0, R1, R2, R3, R6, R7, R8, R9, SK_BUFF } from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { IpProtocol } from '../../net/index.ts';
import type { ProgramWriter } from './writer.ts';

/**
 * @param at4 bytes of the header of layer 3
 * @param icmp the protocol number of ICMP here
 */
export function parseTransport(writer: ProgramWriter, at4: number, icmp: number, done: Label): void {
  const { b } = writer;
  const ports = () => {
    if (!writer.needs.has(Word.PORTS)) return;
    b.loadNetwork(R1, 'u32', at(R9, at4));
    writer.setKey(Word.PORTS, R1);
  };
  const isTcp = b.label('TCP');
  const isUdp = b.label('UDP');
  const isIcmp = b.label('ICMP');
  const isSctp = b.label('SCTP');
  b.jumpIf(R3, '==', IpProtocol.TCP, isTcp);
  b.jumpIf(R3, '==', IpProtocol.UDP, isUdp);
  b.jumpIf(R3, '==', icmp, isIcmp);
  b.jumpIf(R3, '==', IpProtocol.SCTP, isSctp);
  b.jump(done);

  b.place(isTcp);
  b.needBytes(R9, R8, at4 + 20, R1, writer.punt);
  // The header may have options, and must not be longer than the packet.
  b.load(R2, 'u8', at(R9, at4 + 12));
  b.shr(R2, 4);
  b.shl(R2, 2);
  b.jumpIf(R2, '<', 20, writer.punt);
  b.if(R2, '!=', 20, () => {
    b.add(R2, at4);
    b.mov(R1, R9);
    b.sub(R1, R7);
    b.add(R2, R1);
    packetLength(writer);
    b.jumpIf(R2, '>', R1, writer.punt);
  });
  if (writer.needs.has(Word.TCP_FLAGS)) {
    b.loadNetwork(R1, 'u16', at(R9, at4 + 12));
    b.and(R1, 0x0fff);
    b.shl(R1, 16);
    writer.setKey(Word.TCP_FLAGS, R1);
  }
  ports();
  b.jump(done);

  b.place(isSctp);
  b.needBytes(R9, R8, at4 + 12, R1, writer.punt);
  b.place(isUdp);
  b.needBytes(R9, R8, at4 + 8, R1, writer.punt);
  ports();
  b.jump(done);

  b.place(isIcmp);
  b.needBytes(R9, R8, at4 + 8, R1, writer.punt);
  if (writer.needs.has(Word.PORTS)) {
    b.load(R1, 'u8', at(R9, at4));
    b.shl(R1, 16);
    b.load(R2, 'u8', at(R9, at4 + 1));
    b.or(R1, R2);
    writer.setKey(Word.PORTS, R1);
  }
  b.jump(done);
}

/** R1 becomes the packet's length in the buffer. Uses R0. */
function packetLength(writer: ProgramWriter): void {
  const { b } = writer;
  if (writer.isTc) {
    b.load(R1, 'u32', at(R6, SK_BUFF.len));
    return;
  }
  b.mov(R1, R8);
  b.mov(R0, R7);
  b.sub(R1, R0);
}
