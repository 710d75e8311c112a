/**
 * What a datapath would do with a frame, in words: the flow that it falls to, what the actions do, and so on behind each recirculation; or
 * that ovs-vswitchd would be asked. The engine of real packets runs over it, with hooks that only take notes, so that nothing is sent,
 * counted or asked. mount.ts makes a trace of the switch of it.
 */
import { ConnectionPreview, ConnectionState, type Previewed, stateText } from '../../connections/index.ts';
import {
  Action,
  ActionEngine,
  actionLength,
  Drop,
  dropName,
  Extraction,
  everyAction,
  extract,
  extractionDrop,
  type FlowHooks,
  FlowKey,
  type FlowTable,
  formatActions,
  formatFlowKey,
  formatUfid,
  KEY_WORDS,
  Word,
} from '../../flow/index.ts';
import { formatIpv4, formatIpv6, type HeaderOffsets, type Packet } from '../../net/index.ts';
import type { OvsDatapath } from './ovs-datapath.ts';
import type { Buffers } from './plain.ts';
import { asOvsPort, type OvsPort } from './port-number.ts';
import type { Vport } from './vport.ts';

/** A frame on its way out. */
export interface ExplainedOutput {
  readonly port: Vport;
  /** What it has become; null when it is as it came. */
  readonly changed: Uint8Array | null;
}

export interface FrameExplanation {
  /** One sentence each. */
  readonly lines: readonly string[];
  readonly outputs: readonly ExplainedOutput[];
  /** Whether ovs-vswitchd would get it. */
  readonly handedUp: boolean;
  /** Whether it, or a copy, would go through a tunnel. */
  readonly isSentByTunnel: boolean;
  /** Why it, or a copy, would end here, as one of Drop; 0 for not at all. */
  readonly drop: number;
}

/** A sample's probability that is always. */
const ALWAYS = -1;

class FrameExplainer implements FlowHooks {
  readonly lines: string[] = [];
  readonly outputs: ExplainedOutput[] = [];
  handedUp = false;
  isSentByTunnel = false;
  drop = 0;
  readonly #datapath: OvsDatapath;
  readonly #packet: Packet;
  readonly #connections: ConnectionPreview;
  readonly #engine: ActionEngine;

  constructor(datapath: OvsDatapath, packet: Packet, buffers: Buffers) {
    this.#datapath = datapath;
    this.#packet = packet;
    const { low, high } = datapath.flows.hashSecret;
    this.#connections = new ConnectionPreview(datapath.connections, (previewed) => this.#tracked(previewed));
    this.#engine = new ActionEngine(this, { ...buffers, hashSeed: [low, high], connections: this.#connections });
  }

  run(number: OvsPort): void {
    const key = new FlowKey();
    key.begin(number);
    const extraction = extract(this.#packet, key);
    if (extraction !== Extraction.DONE) {
      this.lines.push('its headers make no key');
      this.drop = extractionDrop(extraction);
      return;
    }
    // The packet itself stays as it is: whoever changes it has to copy it.
    this.#packet.hold();
    this.#lookUp(this.#packet, key);
    const { deferred } = this.#engine;
    while (!deferred.isEmpty) {
      const again = new FlowKey();
      this.#lookUp(deferred.take(again), again);
    }
    if ((this.#connections.fragments?.size ?? 0) > 0) this.lines.push('it is a fragment, and waits for the others');
  }

  /** What a ct action has said. */
  #tracked({ action, packet, headers, stateBefore, tracked, refusal }: Previewed): void {
    const where = `ct in zone ${action.zone}`;
    // Why it may not go on is told with the drop.
    if (refusal !== 0) {
      this.lines.push(`${where}: refused`);
      return;
    }
    const isTranslated = (tracked.state & ~stateBefore & ConnectionState.NAT) !== 0;
    const now = isTranslated ? `, translated: ${endsText(packet, headers)}` : '';
    const { state, mark, record } = tracked;
    const isNew = (state & ConnectionState.NEW) !== 0 && record === 0;
    const known = isNew
      ? ', of a connection that is not committed'
      : mark === 0
        ? ''
        : `, mark 0x${(mark >>> 0).toString(16)}`;
    this.lines.push(`${where}: ${stateText(state)}${known}${now}`);
  }

  /** One pass through the table. The packet's reference is given back. */
  #lookUp(packet: Packet, key: FlowKey): void {
    const { table } = this.#datapath.flows;
    const slot = table.match(key.words);
    const { recircId } = key;
    const where = recircId === 0 ? '' : `recirculated with id 0x${recircId.toString(16)}: `;
    if (slot === -1) {
      this.#miss(key, where);
      packet.release();
      return;
    }
    const words = table.actionsOf(slot);
    const isSampling = alwaysSample(words);
    this.lines.push(`${where}falls to the flow ${flowText(table, slot)}`);
    this.lines.push(`actions: ${formatActions(table.actionsOf(slot))}`);
    if (isSampling) this.lines.push('what is done to a sample of its packets is shown as done to this one');
    this.#engine.run(packet, key, words, 0, words.length);
  }

  #miss(key: FlowKey, where: string): void {
    const { name } = this.#datapath;
    const match = formatFlowKey(key.words, shownMask(key));
    this.lines.push(`${where}no flow matches ${match}`);
    if (!this.#datapath.isHeard(asOvsPort(key.inPort))) {
      this.lines.push('no program listens for what matches no flow');
      this.drop = Drop.UPCALL_LOST;
      return;
    }
    this.handedUp = true;
    const ask = key.recircId === 0 ? `, as \`ovs-appctl ofproto/trace ${name} '${match}'\` tells` : '';
    this.lines.push(`an upcall to ovs-vswitchd, which decides by its OpenFlow rules${ask}`);
  }

  output(packet: Packet, number: OvsPort, key: FlowKey): void {
    const port = this.#datapath.ports.get(number);
    if (port === undefined) {
      this.lines.push(`output to port ${number}, which does not exist`);
      this.drop = Drop.PORT_MISSING;
      return;
    }
    if (port.device === null) {
      const { text, drop } = this.#datapath.explainTunnel(port, key);
      this.lines.push(`output to ${port.name} (port ${number}), a tunnel: ${text}`);
      if (drop === 0) this.isSentByTunnel = true;
      else this.drop = drop;
      return;
    }
    const isChanged = packet !== this.#packet;
    this.lines.push(`output to ${port.name} (port ${number})${isChanged ? `, ${packet.length} bytes, changed` : ''}`);
    this.outputs.push({ port, changed: isChanged ? packet.frame().slice() : null });
  }

  userspace(
    _packet: Packet,
    _key: FlowKey,
    words: Int32Array,
    at: number,
    _list: { readonly from: number; readonly end: number },
    lengthBytes: number,
  ): void {
    this.handedUp = true;
    const action = formatActions(words.slice(at, at + actionLength(words[at])));
    this.lines.push(`to ovs-vswitchd, ${lengthBytes} bytes: ${action}`);
  }

  meter(id: number): boolean {
    this.lines.push(`meter ${id}: shown as within its rate`);
    return true;
  }

  dropped(_packet: Packet, reason: number): void {
    this.drop = reason;
    this.lines.push(`dropped: ${dropName(reason).replaceAll('-', ' ')}`);
  }
}

/** From where to where a packet goes. */
function endsText({ bytes, offset }: Packet, headers: HeaderOffsets): string {
  const { ipVersion, l3Offset, sourcePort, destinationPort } = headers;
  const at = offset + l3Offset + (ipVersion === 6 ? 8 : 12);
  const length = ipVersion === 6 ? 16 : 4;
  const text = ipVersion === 6 ? formatIpv6 : formatIpv4;
  const end = (from: number, port: number) => {
    const address = text(bytes, from);
    return port === 0 ? address : ipVersion === 6 ? `[${address}]:${port}` : `${address}:${port}`;
  };
  return `${end(at, sourcePort)} to ${end(at + length, destinationPort)}`;
}

function flowText(table: FlowTable, slot: number): string {
  const key = new Uint32Array(KEY_WORDS);
  table.readKey(slot, key);
  const ufid = table.ufidOf(slot);
  const text = formatFlowKey(key, table.maskOf(slot).words);
  return ufid === null ? text : `ufid:${formatUfid(ufid)}, ${text}`;
}

/** Have samples taken of every packet, in a list that is the caller's. @returns whether any would not be */
function alwaysSample(words: Int32Array): boolean {
  let found = false;
  everyAction(words, 0, words.length, ({ type }, at) => {
    if (type !== Action.SAMPLE) return;
    found ||= words[at + 1] !== ALWAYS;
    words[at + 1] = ALWAYS;
  });
  return found;
}

/** What to show of a packet's own key: all but metadata that it does not have. */
function shownMask(key: FlowKey): Uint32Array {
  const mask = new Uint32Array(KEY_WORDS).fill(0xffff_ffff);
  for (let i = Word.DP_HASH; i < Word.L2; i += 1) if (key.words[i] === 0) mask[i] = 0;
  mask[Word.TCP_FLAGS] = 0xffff_0000;
  if (!key.hasTunnel) mask.fill(0, Word.TUNNEL);
  return mask;
}

/**
 * Explain what becomes of a frame.
 * @param packet is held for the time of the call, and left as it is
 * @param number of the port that it comes in through
 */
export function explainFrame(
  datapath: OvsDatapath,
  packet: Packet,
  number: OvsPort,
  buffers: Buffers,
): FrameExplanation {
  const explainer = new FrameExplainer(datapath, packet, buffers);
  explainer.run(number);
  return explainer;
}
