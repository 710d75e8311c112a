/**
 * Parsing, layer 4: ports, TCP flags, ICMP type and code. R0 is the length of layer 3 as its header tells it, R3 the protocol, R9 the
 * address of layer 3; R8 is the end of the packet. Headers must lie within that length.
 */
import { at, type Label, R0, R1, R2, R3, R8, R9 } from '../../bpf/index.ts';
import { Sound, Word } from '../../flow/index.ts';
import { Fragment, IpProtocol } from '../../net/index.ts';
import type { ProgramWriter } from './writer.ts';

/** What layer 3 was. */
export interface BelowTransport {
  /** Bytes of its header. */
  readonly at4: number;
  /** The protocol number of ICMP here. */
  readonly icmp: number;
  /** R2 says whether it is the first fragment. */
  readonly mayBeFragment: boolean;
}

/** Write it: it goes on at `done`. Uses R1 and R2. */
export function parseTransport(writer: ProgramWriter, { at4, icmp, mayBeFragment }: BelowTransport, done: Label): void {
  const { b } = writer;
  const ports = () => {
    writer.setSound(Sound.TRANSPORT);
    if (!writer.needs.has(Word.PORTS)) return;
    b.loadNetwork(R1, 'u32', at(R9, at4));
    writer.setKey(Word.PORTS, R1);
  };
  /** A header of some bytes must be there. */
  const header = (bytes: number) => {
    b.jumpIf(R0, '<', at4 + bytes, writer.punt);
    b.needBytes(R9, R8, at4 + bytes, R1, writer.punt);
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
  // With its options it must not be longer than the datagram. 16 bits: the length in words, then reserved bits and flags.
  b.loadNetwork(R1, 'u16', at(R9, at4 + 12));
  b.mov(R2, R1);
  b.shr(R2, 12);
  b.shl(R2, 2);
  b.jumpIf(R2, '<', 20, writer.punt);
  b.add(R2, at4);
  b.jumpIf(R2, '>', R0, writer.punt);
  if (writer.needs.has(Word.TCP_FLAGS)) {
    b.and(R1, 0x0fff);
    b.shl(R1, 16);
    writer.setKey(Word.TCP_FLAGS, R1);
  }
  ports();
  b.jump(done);

  b.place(isUdp);
  header(8);
  b.loadNetwork(R1, 'u16', at(R9, at4 + 4));
  b.jumpIf(R1, '<', 8, writer.punt);
  b.block((fits) => {
    // The first fragment tells the length of all of them.
    if (mayBeFragment) b.jumpIf(R2, '!=', Fragment.NONE, fits);
    b.add(R1, at4);
    b.jumpIf(R1, '>', R0, writer.punt);
  });
  ports();
  b.jump(done);

  b.place(isSctp);
  header(12);
  ports();
  b.jump(done);

  b.place(isIcmp);
  header(8);
  writer.setSound(Sound.TRANSPORT);
  if (writer.needs.has(Word.PORTS)) {
    b.load(R1, 'u8', at(R9, at4));
    b.shl(R1, 16);
    b.load(R2, 'u8', at(R9, at4 + 1));
    b.or(R1, R2);
    writer.setKey(Word.PORTS, R1);
  }
  b.jump(done);
}
