/** How a packet's way through the program begins and ends: the port it came by, and going up, passing on, being lost. */
import { type Address, at, type Label, R0, R1, R2, R3, R5, R6, R7, SK_BUFF, TC, XDP, XDP_MD } from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { MTU_ALLOWANCE_BYTES } from '../../net/index.ts';
import { emitLength } from '../actions/length.ts';
import { MAXIMUM_IFINDEX } from '../layout/limits.ts';
import { CpuByte, LaneByte, MTU_SHIFT, PORT_WORDS, PortFlag, PortWord } from '../layout/sizes.ts';
import { emitPunt } from '../punt/punt.ts';
import type { ProgramWriter } from './writer.ts';

/** No Ethernet device of Linux has a smaller one (ETH_MIN_MTU). */
const SMALLEST_MTU = 68;

/** What the program returns for a packet that ends here. */
export function dropVerdict(writer: ProgramWriter): number {
  return writer.isTc ? TC.SHOT : XDP.DROP;
}

function passVerdict(writer: ProgramWriter): number {
  return writer.isTc ? TC.NEXT : XDP.PASS;
}

/** The port, and the words of the key that come from it or from what happened before. */
export function begin(writer: ProgramWriter): void {
  const { b, plan } = writer;
  writer.note('the port');
  b.mov(R6, R1);
  b.load(R1, 'u32', at(R6, writer.isTc ? SK_BUFF.ifindex : XDP_MD.ingressIfindex));
  const pass = b.label('no port');
  b.jumpIf(R1, '>', MAXIMUM_IFINDEX, pass);
  b.shl(R1, Math.log2(PORT_WORDS * 4));
  b.loadMapValue(R7, plan.maps.maps.ports);
  b.add(R7, R1);
  b.store('u64', writer.port, R7);
  b.load(R1, 'u32', at(R7, PortWord.LANE * 4));
  b.store('u32', writer.lane, R1);
  writer.findCpu();
  b.load(R2, 'u32', at(R7, PortWord.FLAGS * 4));
  const isOn = b.label('port is on');
  // What was recirculated has met the program before.
  b.jumpIf(R2, '&', writer.again ? PortFlag.ON | PortFlag.HELD : PortFlag.ON, isOn);
  if (!writer.again) b.jumpIf(R2, '&', PortFlag.HELD, writer.punt);
  b.place(pass);
  b.return(passVerdict(writer));

  b.place(isOn);
  writer.clearKey();
  b.store('u32', writer.layer3, 0);
  b.load(R1, 'u32', at(R7, PortWord.NUMBER * 4));
  writer.setKey(Word.IN_PORT, R1);
  if (writer.again) carriedOver(writer);
  else metadata(writer);
}

/**
 * How many of those that XDP passed have come to tc: counted when it is decided what becomes of the packet, and behind the count of those that
 * go up, so that whoever sees it arrived sees it on its way. Uses R1 to R3.
 */
export function countArrival(writer: ProgramWriter, how: 'add' | 'take back'): void {
  const { b } = writer;
  if (!writer.isTc || writer.again) return;
  writer.note('one that XDP passed has come here');
  b.load(R3, 'u64', writer.port);
  b.load(R2, 'u32', at(R3, PortWord.FLAGS * 4));
  b.if(R2, '&', PortFlag.XDP, () => {
    b.load(R1, 'u32', at(R6, SK_BUFF.gsoSegs));
    b.if(R1, '==', 0, () => b.mov(R1, 1));
    if (how === 'take back') b.neg32(R1);
    b.atomic('add', 'u32', at(R3, PortWord.ARRIVED * 4), R1);
  });
}

/**
 * Whether a packet is too long for the interface that it is about to be sent by, which the engine finds in the end (mtu.ts of net/); a super-packet is
 * cut later. At tc a tag beside the packet is not part of its length. At XDP the kernel counts all tags, and refuses what is longer. Uses R1 to R3.
 * @param ifindex where the index of the interface lies
 * @param tooLong where a packet goes that does not fit
 */
export function fits(writer: ProgramWriter, ifindex: Address, tooLong: Label): void {
  const { b, plan } = writer;
  b.block((leave) => {
    if (writer.isTc) b.load(R1, 'u32', at(R6, SK_BUFF.len));
    else emitLength(b, false);
    // Most are short or super-packets: they need no look at the port.
    b.jumpIf(R1, '<=', SMALLEST_MTU + MTU_ALLOWANCE_BYTES, leave);
    if (writer.isTc) {
      b.load(R2, 'u32', at(R6, SK_BUFF.gsoSize));
      b.jumpIf(R2, '!=', 0, leave);
    }
    b.load(R3, 'u32', ifindex);
    b.jumpIf(R3, '>', MAXIMUM_IFINDEX, leave);
    b.shl(R3, Math.log2(PORT_WORDS * 4));
    b.loadMapValue(R2, plan.maps.maps.ports);
    b.add(R2, R3);
    b.load(R3, 'u32', at(R2, PortWord.FLAGS * 4));
    b.shr(R3, MTU_SHIFT);
    b.jumpIf(R3, '==', 0, leave);
    b.add(R3, MTU_ALLOWANCE_BYTES);
    b.jumpIf(R1, '<=', R3, leave);
    b.jump(tooLong);
  });
}

/** What the pass before has left. */
function carriedOver(writer: ProgramWriter): void {
  const { b, needs } = writer;
  writer.note('what the pass before has left');
  b.load(R1, 'u32', at(R5, CpuByte.DEPTH));
  b.store('u32', writer.depth, R1);
  for (const [byte, word] of [
    [CpuByte.RECIRC_ID, Word.RECIRC_ID],
    [CpuByte.DP_HASH, Word.DP_HASH],
  ] as const) {
    if (!needs.has(word)) continue;
    b.load(R1, 'u32', at(R5, byte));
    writer.setKey(word, R1);
  }
  writer.countOfPort(LaneByte.RECIRCULATED);
}

/** Mark and priority are the engine's to give: a packet that comes in has none. */
function metadata(writer: ProgramWriter): void {
  const { b, needs } = writer;
  if (!writer.isTc || !needs.setsMetadata) return;
  writer.note('mark and priority are 0 until an action sets them');
  b.store('u32', at(R6, SK_BUFF.mark), 0);
  b.store('u32', at(R6, SK_BUFF.priority), 0);
}

/** Write that packets which go up are counted as that. It begins with `punt`. */
export function announce(writer: ProgramWriter): void {
  const { b } = writer;
  b.place(writer.punt);
  writer.note('to the engine');
  b.load(R7, 'u64', writer.port);
  b.mov(R1, 1);
  b.atomic('add', 'u32', at(R7, (writer.isTc ? PortWord.PUNTED : PortWord.PASSED) * 4), R1);
}

/** Write how a packet goes up that is counted as that, and how one is lost. */
export function end(writer: ProgramWriter): void {
  const { b } = writer;
  countArrival(writer, 'add');
  writer.countOfPort(writer.isTc ? LaneByte.PUNTED : LaneByte.PASSED);
  if (!writer.isTc) b.return(XDP.PASS);
  else {
    b.load(R7, 'u64', writer.port);
    const pass = b.label('the TAP has it');
    b.load(R2, 'u32', at(R7, PortWord.FLAGS * 4));
    b.jumpIf(R2, '&', PortFlag.EGRESS, pass);
    b.load(R3, 'u32', at(R7, PortWord.PUNT_IFINDEX * 4));
    b.jumpIf(R3, '==', 0, pass);
    emitPunt(b, R6, R3);
    b.place(pass);
    b.return(TC.NEXT);
  }
  if (writer.failed.uses === 0) return;
  b.place(writer.failed);
  writer.note('a helper failed after a change: the packet is lost');
  writer.countOfPort(LaneByte.FAILED);
  b.mov(R0, dropVerdict(writer));
  b.exit();
}
