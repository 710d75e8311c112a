/**
 * Established connections beside the same traffic without any: TCP, and small packets in flows that were answered, through Millrace under ovs-vswitchd, whose rules are a firewall or plain forwarding. The
 * peers of forward.ts, with other rules.
 */
import { NetworkNamespace, openPacketSocket } from '../../src/host/index.ts';
import { Batch, PacketPool, TagAction } from '../../src/net/index.ts';
import { firstFrame } from '../measure/first-packets.ts';
import { DaemonUnderTest } from '../peers/daemon.ts';
import type { OffloadHook } from '../peers/millrace.ts';
import { bridged, type Measures, type Peer } from '../peers/peer.ts';
import { prepareHostsForXdp } from '../peers/redirect.ts';
import { USUAL_FLOWS } from '../report.ts';
import { sleep, until } from '../shell.ts';
import { MAC_BEHIND_B, TwoHosts } from '../two-host.ts';
import { firewallRules, PLAIN_RULES } from './rules.ts';

/** Ports of the generator's flows: source ports from this one on. */
const FIRST_PORT = 1024;
const DESTINATION_PORT = 9;
/** A station that is not there, so that A's kernel does not answer. */
const MAC_BEHIND_A = '02:00:00:00:0a:99';
/** A datagram's connection lasts for long when packets still come two seconds after the first. */
const STREAM_AFTER_MS = 2500;

export class EstablishedPeer implements Peer {
  readonly id: string;
  readonly title: string;
  readonly measures: Measures;
  readonly receiver: 'stack' | 'xdp';
  readonly #hook: OffloadHook;
  readonly #isTracked: boolean;
  readonly #daemon = new DaemonUnderTest();

  constructor(hook: OffloadHook, isTracked: boolean) {
    this.#hook = hook;
    this.#isTracked = isTracked;
    this.id = `${isTracked ? 'ct' : 'plain'}-${hook}`;
    this.title = `Millrace, ${hook === 'off' ? 'engine' : `offload ${hook}`}, ${isTracked ? 'with' : 'without'} ct`;
    this.receiver = hook === 'xdp' ? 'xdp' : 'stack';
    const tcpStreams = hook === 'xdp' ? [] : [1];
    this.measures = { tcpStreams, small: [bridged(USUAL_FLOWS)], steady: false, latency: false };
  }

  async start(hosts: TwoHosts): Promise<void> {
    if (this.#hook === 'xdp') prepareHostsForXdp(hosts);
    const daemon = this.#daemon;
    daemon.start(hosts, { brain: 'ovs', hook: this.#hook });
    daemon.startOpenVSwitch();
    daemon.rules(this.#isTracked ? firewallRules(false) : PLAIN_RULES);
    if (this.#hook !== 'off') daemon.requireOffload(this.#hook);
    if (this.#isTracked) await this.#establish(hosts);
  }

  remark(): string {
    return this.#hook === 'off' ? '' : this.#daemon.offloadRemark();
  }

  async stop(): Promise<void> {
    this.#daemon.stop();
  }

  describe(): string {
    return this.#daemon.describe();
  }

  /** Have the generator's flows answered, and go on until they are streams. */
  async #establish(hosts: TwoHosts): Promise<void> {
    const there = Array.from({ length: USUAL_FLOWS }, (_, flow) => datagram(flow));
    const back = there.map(answer);
    const begunMs = performance.now();
    await until('the flows are established', 20_000, async () => {
      sendFrom(hosts.a, there);
      await sleep(200);
      sendFrom(hosts.b, back);
      await sleep(200);
      const replied = JSON.parse(this.#daemon.millrace('--json', 'connections', 'list', '-p', 'udp', '--replied'));
      return replied.length === USUAL_FLOWS && performance.now() - begunMs > STREAM_AFTER_MS;
    });
  }
}

function datagram(flow: number): Uint8Array {
  const destination = { destinationMac: MAC_BEHIND_B, destinationAddress: TwoHosts.addressB };
  const bytes = firstFrame('udp', { ...destination, destinationPort: DESTINATION_PORT });
  new DataView(bytes.buffer).setUint16(34, FIRST_PORT + flow);
  return bytes;
}

/** The same with its ends exchanged: the header's sum stays. */
function answer(frame: Uint8Array): Uint8Array {
  const bytes = frame.slice();
  bytes.set(
    MAC_BEHIND_A.split(':').map((part) => Number.parseInt(part, 16)),
    0,
  );
  bytes.set(frame.subarray(0, 6), 6);
  bytes.set(frame.subarray(30, 34), 26);
  bytes.set(frame.subarray(26, 30), 30);
  bytes.set(frame.subarray(36, 38), 34);
  bytes.set(frame.subarray(34, 36), 36);
  return bytes;
}

function sendFrom(namespace: string, frames: readonly Uint8Array[]): void {
  const there = NetworkNamespace.byName(namespace);
  const socket = there.run(() => openPacketSocket({ interfaceName: 'e0', receive: false, isolate: false }));
  there.close();
  const pool = new PacketPool({ packets: frames.length, bufferBytes: 2048 });
  const batch = new Batch();
  try {
    for (const frame of frames) {
      const packet = pool.allocate();
      if (packet === null) throw new Error('no packet for a frame');
      packet.bytes.set(frame, packet.offset);
      packet.length = frame.length;
      socket.transmit(packet, TagAction.KEEP);
      batch.push(packet);
    }
    socket.flush();
    batch.releaseAll();
  } finally {
    socket.close();
  }
}
