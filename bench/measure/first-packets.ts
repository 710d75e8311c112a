/**
 * First packets of connections, one packet each: UDP datagrams, or TCP segments with SYN, made inside A's kernel and paced. What tells connections apart is the source port, all
 * 65,536 of them in turn. The program is the generator's idea (src/bpf/tools/), for TCP as well.
 *
 *     a segment's sequence number ends with the complement of its source port, so that all have the same checksum
 */
import {
  ArrayMap,
  at,
  count64,
  loadProgram,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R4,
  type StructValue,
  struct,
  XDP,
} from '../../src/bpf/index.ts';
import { LiveFrameRun } from '../../src/bpf/program/test-run.ts';
import { netdevIndex } from '../../src/bpf/sys/netdev.ts';
import { holdInDispatcher } from '../../src/bpf/tools/hold.ts';
import { NetworkNamespace } from '../../src/host/index.ts';
import { finishSum, parseIpv4Address, parseMac, pseudoHeaderSum4, sumBytes } from '../../src/net/index.ts';
import type { Traffic } from '../peers/peer.ts';
import { sleep } from '../shell.ts';
import { TwoHosts } from '../two-host.ts';

/** Connections that there are to one destination port. */
export const SOURCE_PORTS = 65_536;

export type FirstProtocol = 'udp' | 'tcp';

/** Where packets go. */
export type Destination = Pick<Traffic, 'destinationMac' | 'destinationAddress'> & { readonly destinationPort: number };

const IP = 14;
const L4 = 34;
const FRAME_BYTES = 60;
const NUMBERS = { udp: 17, tcp: 6 } as const;
const L4_BYTES = { udp: 26, tcp: 20 } as const;
const SEQUENCE_LOW = L4 + 6;
const TCP_CHECKSUM = L4 + 16;
/** Frames that are sent at once, at most: more than a veth's ring has place for would be lost. */
const BURST = 192;

const state = struct({ next: count64 }, 'first_packets');

/** The frame with source port 0. */
export function firstFrame(protocol: FirstProtocol, to: Destination): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(parseMac(to.destinationMac), 0);
  bytes.set(parseMac(TwoHosts.macA), 6);
  view.setUint16(12, 0x0800);
  bytes.set([0x45, 0], IP);
  view.setUint16(IP + 2, 20 + L4_BYTES[protocol]);
  bytes.set([64, NUMBERS[protocol]], IP + 8);
  bytes.set(parseIpv4Address(TwoHosts.addressA), IP + 12);
  bytes.set(parseIpv4Address(to.destinationAddress), IP + 16);
  view.setUint16(IP + 10, finishSum(sumBytes(bytes, IP, 20, 0)));
  view.setUint16(L4 + 2, to.destinationPort);
  if (protocol === 'udp') {
    // No checksum.
    view.setUint16(L4 + 4, L4_BYTES.udp);
    return bytes;
  }
  view.setUint16(SEQUENCE_LOW, 0xffff);
  bytes.set([0x50, 0x02, 0xff, 0xff], L4 + 12);
  const pseudo = pseudoHeaderSum4(bytes, IP + 12, NUMBERS.tcp, L4_BYTES.tcp);
  view.setUint16(TCP_CHECKSUM, finishSum(sumBytes(bytes, L4, L4_BYTES.tcp, pseudo)));
  return bytes;
}

function program(
  protocol: FirstProtocol,
  frame: Uint8Array,
  ifindex: number,
  map: ArrayMap<StructValue<(typeof state)['fields']>>,
): ProgramBuilder {
  const view = new DataView(frame.buffer);
  const b = new ProgramBuilder('first_packets', { recordSites: false });
  b.packetOfXdp(R1, R2, R3);
  b.needBytes(R2, R3, FRAME_BYTES, R4, () => b.return(XDP.ABORTED));
  // Frames come back from earlier rounds in whatever state their last receiver has left them.
  for (let offset = 0; offset < FRAME_BYTES; offset += 4) b.store('u32', at(R2, offset), view.getInt32(offset, true));
  b.loadMapValue(R1, map);
  b.load(R0, 'u64', at(R1, state.offsetOf('next')));
  b.mov(R3, R0);
  b.add(R3, 1);
  b.store('u64', at(R1, state.offsetOf('next')), R3);
  b.toBigEndian(R0, 16);
  b.store('u16', at(R2, L4), R0);
  if (protocol === 'tcp') {
    b.xor(R0, 0xffff);
    b.store('u16', at(R2, SEQUENCE_LOW), R0);
  }
  b.call('redirect', ifindex, 0);
  b.exit();
  return b;
}

/** Sends from A until it is closed. */
export class FirstPackets {
  readonly #hosts: TwoHosts;
  readonly #closers: (() => void)[] = [];
  readonly #frames: LiveFrameRun;
  readonly #home = NetworkNamespace.current();
  readonly #a: NetworkNamespace;

  /** @throws what loading programs throws */
  constructor(hosts: TwoHosts, protocol: FirstProtocol, to: Destination) {
    this.#hosts = hosts;
    this.#a = NetworkNamespace.byName(this.#hosts.a);
    this.#closers.push(
      () => this.#home.close(),
      () => this.#a.close(),
    );
    try {
      const frame = firstFrame(protocol, to);
      const map = ArrayMap.create({ name: 'first_packets', value: state, maxEntries: 1 });
      this.#closers.push(() => map.close());
      const ifindex = this.#a.run(() => netdevIndex('e0', 'send first packets'));
      const loaded = loadProgram({ type: 'xdp', code: program(protocol, frame, ifindex, map) });
      this.#closers.push(() => loaded.close());
      const release = holdInDispatcher(loaded);
      if (release !== undefined) this.#closers.push(release);
      this.#frames = new LiveFrameRun(loaded.fd, 'first_packets', { data: frame, batch: 64 });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Send, and let others on this thread have their turn meanwhile.
   * @param goesOn asked before each burst
   */
  async send(count: number, pps: number, goesOn: () => boolean = () => true): Promise<void> {
    const begunMs = performance.now();
    for (let sent = 0; sent < count && goesOn(); ) {
      const due = Math.floor(((performance.now() - begunMs) * pps) / 1000) - sent;
      const many = Math.min(due, count - sent, BURST);
      if (many > 0) {
        // The kernel looks the interface up where this thread is.
        this.#a.run(() => this.#frames.run(many));
        sent += many;
      }
      await (due > BURST ? new Promise<void>((resolve) => setImmediate(resolve)) : sleep(1));
    }
  }

  close(): void {
    for (const close of this.#closers.splice(0).reverse()) close();
  }
}
