/**
 * A filtering extension: a TCP port stays shut for everyone who has not knocked, that is, sent a TCP SYN to a secret sequence of
 * ports. It shows how to drop with a reason of one's own, use the clock, and keep state that an attacker cannot make grow.
 */
import { Batch, Fragment, formatIpv4, formatIpv6, HeaderOffsets, IpProtocol, type Packet } from 'millrace/net';
import type { Extension, ExtensionFactory, ExtensionHandle, JsonValue } from 'millrace/switch';

const SYN = 0x02;
const ACK = 0x10;
/** Sources that are remembered at most, on their way and let in; forged addresses must not fill the memory. */
const MAXIMUM_SOURCES = 4096;

interface Configuration {
  readonly protect: number;
  readonly knock: readonly number[];
  readonly withinMs: number;
  readonly openMs: number;
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536;
}

function parseConfiguration(value: unknown): Configuration {
  const keys = ['protect', 'knock', 'withinSeconds', 'openSeconds'];
  const given: Readonly<Record<string, unknown>> = { withinSeconds: 10, openSeconds: 300, ...(value as object | null) };
  const unknown = Object.keys(given).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw new Error(`unknown key "${unknown}"; there are ${keys.join(', ')}`);
  const { protect, knock, withinSeconds, openSeconds } = given;
  if (!isPort(protect)) throw new Error('protect: must be the TCP port to protect');
  if (!Array.isArray(knock) || knock.length === 0 || knock.length > 16 || !knock.every(isPort)) {
    throw new Error('knock: must be a list of 1 to 16 TCP ports');
  }
  if (knock.includes(protect)) throw new Error('knock: must not contain the protected port');
  if (typeof withinSeconds !== 'number' || withinSeconds <= 0) throw new Error('withinSeconds: must be above 0');
  if (typeof openSeconds !== 'number' || openSeconds <= 0) throw new Error('openSeconds: must be above 0');
  return { protect, knock, withinMs: withinSeconds * 1000, openMs: openSeconds * 1000 };
}

/** How far a source address has come. */
interface Visitor {
  /** Knocks that were right so far. */
  step: number;
  startedMs: number;
}

class PortKnock implements Extension {
  readonly #handle: ExtensionHandle;
  readonly #configuration: Configuration;
  readonly #headers = new HeaderOffsets();
  readonly #dropped = new Batch();
  readonly #shut: number;
  /** Who is knocking, by source address, those heard last at the end: the one that has been quiet longest is forgotten first. */
  readonly #visitors = new Map<string, Visitor>();
  /** Until when the port is open, by source address. Forged knocks cannot push anybody out of here. */
  readonly #openUntilMs = new Map<string, number>();

  constructor(handle: ExtensionHandle, configuration: Configuration) {
    this.#handle = handle;
    this.#configuration = configuration;
    this.#shut = handle.registerDropReason('SHUT', 'The port is shut for sources that have not knocked.');
  }

  onIngress(batch: Batch, flags: number): void {
    const packets = batch.packets;
    const count = batch.count;
    let kept = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      if (this.#passes(packet)) {
        packets[kept] = packet;
        kept += 1;
      } else {
        // One port and one reason a list; drops are rare enough to be reported one by one.
        this.#dropped.push(packet);
        this.#handle.dropIngress(this.#dropped, this.#handle.context(packet).sourcePortId, this.#shut, true);
      }
    }
    batch.count = kept;
    if (kept > 0) this.#handle.sendIngress(batch, flags);
  }

  #passes(packet: Packet): boolean {
    const headers = this.#headers;
    headers.parse(packet);
    if (headers.ipProtocol !== IpProtocol.TCP || headers.fragment === Fragment.LATER) return true;
    // A header that is cut short could hide its ports from us and have them completed by the next fragment.
    if (headers.payloadOffset < 0) return false;
    const port = headers.destinationPort;
    if (port === this.#configuration.protect) return this.#isOpenFor(this.#source(packet));
    const flags = packet.bytes[packet.offset + headers.l4Offset + 13];
    if ((flags & (SYN | ACK)) === SYN && this.#configuration.knock.includes(port)) {
      this.#knocked(this.#source(packet), port);
    }
    return true;
  }

  /**
   * The source address behind the headers that were parsed last, as text. This allocates, which is fine for the few packets that
   * knock or go to the protected port; top-talkers shows how to do without.
   */
  #source(packet: Packet): string {
    const at = packet.offset + this.#headers.l3Offset;
    return this.#headers.ipVersion === 4 ? formatIpv4(packet.bytes, at + 12) : formatIpv6(packet.bytes, at + 8);
  }

  #isOpenFor(source: string): boolean {
    return this.#handle.host.nowMs() < (this.#openUntilMs.get(source) ?? 0);
  }

  #knocked(source: string, port: number): void {
    const { knock, withinMs } = this.#configuration;
    const nowMs = this.#handle.host.nowMs();
    const visitor = this.#visitors.get(source) ?? { step: 0, startedMs: nowMs };
    this.#visitors.delete(source);
    if (nowMs - visitor.startedMs > withinMs) visitor.step = 0;
    // A wrong knock starts anew, and may itself be the first right one.
    if (port !== knock[visitor.step]) visitor.step = 0;
    if (port !== knock[visitor.step]) return;
    if (visitor.step === 0) visitor.startedMs = nowMs;
    visitor.step += 1;
    if (visitor.step === knock.length) {
      this.#open(source, nowMs);
      return;
    }
    this.#visitors.set(source, visitor);
    if (this.#visitors.size > MAXIMUM_SOURCES) {
      const [quietest] = this.#visitors.keys();
      this.#visitors.delete(quietest);
    }
  }

  #open(source: string, nowMs: number): void {
    const open = this.#openUntilMs;
    for (const [other, untilMs] of open) if (untilMs <= nowMs) open.delete(other);
    if (open.size >= MAXIMUM_SOURCES && !open.has(source)) {
      this.#handle.host.log('warn', `${source} has knocked, but there is no room for another`);
      return;
    }
    open.set(source, nowMs + this.#configuration.openMs);
    this.#handle.host.log('info', `${source} has knocked`, { port: this.#configuration.protect });
  }

  status(): JsonValue {
    const nowMs = this.#handle.host.nowMs();
    const open = [...this.#openUntilMs].filter(([, untilMs]) => nowMs < untilMs);
    return {
      protect: this.#configuration.protect,
      open: open.map(([address, untilMs]) => ({ address, remainingSeconds: Math.ceil((untilMs - nowMs) / 1000) })),
    };
  }
}

const portKnock: ExtensionFactory<Configuration> = {
  descriptor: {
    name: 'port-knock',
    type: 'filtering',
    version: '1.0.0',
    description: 'keeps a TCP port shut until a sequence of ports was knocked at',
  },
  parseConfiguration,
  create: (handle, configuration) => new PortKnock(handle, configuration),
};

export default portKnock;
