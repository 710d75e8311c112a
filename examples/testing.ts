/**
 * For the examples' tests: a switch in memory with named ports, a clock that is turned by hand, and frames to send. It uses the public
 * interface alone, so it also shows how to run a switch inside another program.
 */
import {
  Batch,
  composeFrame,
  Ethernet,
  EtherType,
  HeaderOffsets,
  header,
  IpProtocol,
  Ipv4,
  PacketPool,
  Tcp,
  TcpFlag,
} from 'millrace/net';
import { createSwitch, type VirtualSwitch } from 'millrace/switch';

/** A switch with what its ports were sent. */
export class TestBench {
  /** The clock, in milliseconds. */
  nowMs = 1000;
  readonly log: string[] = [];
  readonly virtualSwitch: VirtualSwitch;
  /** Frames delivered to each port since {@link take}. */
  readonly #delivered = new Map<string, Uint8Array[]>();
  readonly #pool = new PacketPool({ packets: 64, bufferBytes: 2048 });
  #timers: { readonly dueMs: number; readonly callback: () => void }[] = [];

  constructor(...ports: string[]) {
    this.virtualSwitch = createSwitch({
      name: 'bench',
      host: {
        nowMs: () => this.nowMs,
        log: (level, message) => {
          this.log.push(`${level}: ${message}`);
        },
        setTimer: (delayMs, callback) => {
          const timer = { dueMs: this.nowMs + delayMs, callback };
          this.#timers.push(timer);
          return { cancel: () => this.#forget(timer) };
        },
      },
      // Catches extensions that change what they may only look at.
      verifyData: true,
    });
    for (const name of ports) this.addPort(name);
    this.virtualSwitch.activate().result();
  }

  #forget(timer: object): void {
    this.#timers = this.#timers.filter((other) => other !== timer);
  }

  /** Let time pass: timers that are due call back. */
  advance(ms: number): void {
    this.nowMs += ms;
    for (const timer of this.#timers.filter(({ dueMs }) => dueMs <= this.nowMs)) {
      this.#forget(timer);
      timer.callback();
    }
  }

  addPort(name: string): void {
    const portId = this.virtualSwitch.createPort({ name }).result();
    const frames: Uint8Array[] = [];
    this.#delivered.set(name, frames);
    this.virtualSwitch
      .createNic(portId, {
        name,
        backend: {
          transmit: (packet) => {
            frames.push(packet.frame().slice());
          },
          flush: () => {},
        },
      })
      .result();
    this.virtualSwitch.connectNic(portId).result();
  }

  removePort(name: string): void {
    this.virtualSwitch.removePort(this.portId(name)).result();
  }

  portId(name: string): number {
    const portId = this.virtualSwitch.findPort(name);
    if (portId === null) throw new Error(`there is no port ${name}`);
    return portId;
  }

  /** Let frames come in through a port, all in one batch. */
  send(port: string, ...frames: Uint8Array[]): void {
    const batch = new Batch();
    for (const frame of frames) {
      const packet = this.#pool.allocate();
      if (packet === null) throw new Error('more frames than buffers');
      packet.bytes.set(frame, packet.offset);
      packet.length = frame.length;
      batch.push(packet);
    }
    this.virtualSwitch.receive(this.portId(port), 0, batch);
    if (this.#pool.available !== this.#pool.capacity) throw new Error('the switch has kept packets');
  }

  /** What was delivered to a port since the last call. */
  take(port: string): Uint8Array[] {
    return this.#delivered.get(port)?.splice(0) ?? [];
  }

  /** Drop counts of a port by the reason's name. */
  drops(port: string): Record<string, number> {
    return Object.fromEntries(this.virtualSwitch.drops(this.portId(port)).map(({ name, packets }) => [name, packets]));
  }
}

/** A TCP packet; a SYN unless other flags are given. */
export function tcp(
  source: string,
  destination: string,
  ports: readonly [number, number],
  flags: number = TcpFlag.SYN,
): Uint8Array {
  const [sourcePort, destinationPort] = ports;
  return composeFrame([
    header(Ethernet, { destination: '02:00:00:00:00:02', source: '02:00:00:00:00:01', etherType: EtherType.IPV4 }),
    header(Ipv4, {
      dscp: 0,
      ecn: 0,
      payloadLength: 0,
      identification: 1,
      dontFragment: true,
      moreFragments: false,
      fragmentOffset: 0,
      timeToLive: 64,
      protocol: IpProtocol.TCP,
      source,
      destination,
      options: [],
    }),
    header(Tcp, {
      sourcePort,
      destinationPort,
      sequence: 1,
      acknowledgment: 0,
      flags,
      window: 1024,
      urgentPointer: 0,
      options: [],
    }),
  ]);
}

/** Source and destination port of a frame. */
export function portsOf(frame: Uint8Array): readonly [number, number] {
  const headers = new HeaderOffsets();
  headers.parseBytes(frame, 0, frame.length);
  return [headers.sourcePort, headers.destinationPort];
}
