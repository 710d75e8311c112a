/**
 * IPv4, IPv6, TCP and UDP headers changed, with all checksums that cover them. One code changes the header for both hooks: in the
 * packet at xdp, in a copy on the stack at tc, which is stored back with a helper that knows the state of the packet's checksum.
 * Part of emit.ts.
 */
import { at, R0, R1, R2, R3, R4, R5, R6, R8, R9, type Register } from '../../bpf/index.ts';
import { IpProtocol } from '../../net/index.ts';
import { header, loadWindow } from './emit-checks.ts';
import { difference, fold32, setHalf, setWord, updateSum } from './emit-sum.ts';
import { network16 } from './order.ts';
import type { Step, Transport } from './shape.ts';
import type { ShapeWriter } from './writer.ts';

/** Flags of bpf_l4_csum_replace: the change is of the pseudo header; 0 means no checksum. */
const PSEUDO_HEADER = 0x10;
const MANGLED_0 = 0x20;
/** Flag of bpf_skb_store_bytes: no checksum field makes up for the change, so the sum over all of the packet has to follow. */
const RECOMPUTE = 1;

/** Where a protocol's checksum lies in its header, and how much of the header has to be there. */
const TRANSPORT: Readonly<Record<'tcp' | 'udp' | 'icmp6', { readonly field: number; readonly bytes: number }>> = {
  tcp: { field: 16, bytes: 20 },
  udp: { field: 6, bytes: 8 },
  icmp6: { field: 2, bytes: 8 },
};

export function emitIpv4(writer: ShapeWriter, step: Extract<Step, { kind: 'ipv4' }>): void {
  const { b } = writer;
  loadWindow(writer, 4);
  const hasTransport = step.transport !== 'none';
  b.mov(R5, 0);
  if (hasTransport) b.mov(R4, 0);
  if (step.tos) setHalf(writer, header(writer, 0), [R5]);
  if (step.ttl) setHalf(writer, header(writer, 8), [R5]);
  step.words.forEach((form, i) => {
    setWord(writer, header(writer, 12 + i * 4), form, hasTransport ? [R5, R4] : [R5]);
  });
  updateSum(b, header(writer, 10), R5, false);
  storeHeader(writer, 20, 0, hasTransport);
  writer.changed = true;
  transportSum(writer, step.transport, 20, 9);
}

export function emitIpv6(writer: ShapeWriter, step: Extract<Step, { kind: 'ipv6' }>): void {
  const { b } = writer;
  loadWindow(writer, 6);
  const hasTransport = step.transport !== 'none';
  if (hasTransport) b.mov(R4, 0);
  if (step.first) setWord(writer, header(writer, 0), 'm', []);
  if (step.ttl) setHalf(writer, header(writer, 6), []);
  step.words.forEach((form, i) => {
    setWord(writer, header(writer, 8 + i * 4), form, hasTransport ? [R4] : []);
  });
  storeHeader(writer, 40, RECOMPUTE, hasTransport);
  writer.changed = true;
  transportSum(writer, step.transport, 40, 6);
}

/** tc: store the copy of the header back. The transport's difference moves from R4 to R9, which outlives the call. */
function storeHeader(writer: ShapeWriter, lengthBytes: number, flags: number, hasTransport: boolean): void {
  const { b, window } = writer;
  if (!writer.isTc || window === null) return;
  if (hasTransport) {
    b.mov(R9, R4);
    fold32(b, R9, R1);
  }
  b.call('skb_store_bytes', R6, R8, window, lengthBytes, flags);
  writer.mustBeZero();
}

/** Addresses have changed: the transport checksum follows. */
function transportSum(writer: ShapeWriter, transport: Transport, headerBytes: number, protocolAt: number): void {
  if (transport === 'none') return;
  if (transport !== 'any') {
    oneTransportSum(writer, transport, headerBytes);
    return;
  }
  const { b } = writer;
  b.load(R1, 'u8', header(writer, protocolAt));
  const bounded = (of: 'tcp' | 'udp' | 'icmp6') => () => {
    if (!writer.isTc) {
      // Checked before the first change already; the verifier wants to see it where it is used.
      b.load(R2, 'u32', at(R6, 4));
      b.needBytes(R8, R2, headerBytes + TRANSPORT[of].bytes, R3, writer.emit.failed);
    }
    oneTransportSum(writer, of, headerBytes);
  };
  b.switch(R1, [
    [IpProtocol.TCP, bounded('tcp')],
    [IpProtocol.UDP, bounded('udp')],
    [IpProtocol.ICMPV6, bounded('icmp6')],
  ]);
}

function oneTransportSum(writer: ShapeWriter, transport: 'tcp' | 'udp' | 'icmp6', headerBytes: number): void {
  const { b } = writer;
  const field = headerBytes + TRANSPORT[transport].field;
  const isUdp = transport === 'udp';
  if (!writer.isTc) {
    updateSum(b, at(R8, field), R4, isUdp);
    return;
  }
  b.if(R9, '!=', 0, () => replaceSum(writer, field, R9, PSEUDO_HEADER | (isUdp ? MANGLED_0 : 0)));
}

/** tc: update a transport checksum, which may be partial, by a difference. */
function replaceSum(writer: ShapeWriter, field: number, sum: Register, flags: number): void {
  const { b } = writer;
  b.mov(R1, R6);
  b.mov(R2, R8);
  b.add(R2, field);
  b.mov(R3, 0);
  b.mov(R4, sum);
  b.mov(R5, flags);
  b.callHelper('l4_csum_replace');
  b.jumpIf(R0, '!=', 0, writer.emit.failed);
}

export function emitPorts(writer: ShapeWriter, step: Extract<Step, { kind: 'ports' }>): void {
  const { b } = writer;
  const headerBytes = step.version === 4 ? 20 : 40;
  const isUdp = step.transport === 'udp';
  const field = headerBytes + TRANSPORT[step.transport].field;
  if (!writer.isTc) {
    writer.layer3();
    b.mov(R5, 0);
    setWord(writer, at(R8, headerBytes), step.word, [R5]);
    updateSum(b, at(R8, field), R5, isUdp);
    return;
  }
  b.block((leave) => {
    const ports = b.stack(8, 8);
    b.mov(R2, R8);
    b.add(R2, headerBytes);
    b.call('skb_load_bytes', R6, R2, ports, 8);
    writer.mustBeZero();
    b.mov(R9, 0);
    setWord(writer, ports, step.word, [R9], leave);
    fold32(b, R9, R1);
    b.mov(R5, 0);
    if (isUdp) {
      b.load(R1, 'u16', ports.at(6));
      b.if(R1, '==', 0, () => b.mov(R5, RECOMPUTE));
    }
    b.mov(R2, R8);
    b.add(R2, headerBytes);
    b.call('skb_store_bytes', R6, R2, ports, 4, R5);
    writer.mustBeZero();
    writer.changed = true;
    b.if(R9, '!=', 0, () => replaceSum(writer, field, R9, isUdp ? MANGLED_0 : 0));
  });
}

export function emitDecTtl(writer: ShapeWriter, version: 4 | 6): void {
  const { b } = writer;
  loadWindow(writer, version);
  if (version === 4) {
    const field = header(writer, 8);
    b.mov(R5, 0);
    b.load(R1, 'u16', field);
    b.mov(R2, R1);
    b.sub(R2, network16(0x0100));
    b.store('u16', field, R2);
    difference(b, 16, [R5]);
    updateSum(b, header(writer, 10), R5, false);
    storeHeader(writer, 20, 0, false);
    return;
  }
  const field = header(writer, 7);
  b.load(R1, 'u8', field);
  b.sub(R1, 1);
  b.store('u8', field, R1);
  storeHeader(writer, 40, RECOMPUTE, false);
}
