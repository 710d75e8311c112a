/**
 * The ports whose packets come through programs, or whose flows programs carry: they begin, change and end here, each gets the flow table that
 * decides about it, and what is punted goes on to the switch. Neighbours: port-offload.ts is one port, upkeep/ sees
 * that its programs stay, flow-tables.ts has the tables.
 */
import { type PuntRecord, withRouteClient } from '../../../host/index.ts';
import type { Batch, Packet } from '../../../net/index.ts';
import { messageOf, type VirtualSwitch } from '../../../switch/index.ts';
import type { PortInfo } from '../../api.ts';
import { Seldom } from '../../seldom.ts';
import type { DatapathPort } from '../port.ts';
import { CHANGES, type Change } from './interface-changes.ts';
import { transientHolder } from './kept.ts';
import { PortOffload } from './port-offload.ts';
import { PortPunts } from './port-punts.ts';
import { type PuntShare, PuntShares } from './punt-shares.ts';
import type { OffloadedSource } from './source.ts';
import { PortUpkeep, type UpkeepSurroundings } from './upkeep/port-upkeep.ts';
import { RING_SLOTS } from './way-up.ts';

const FAILED_CHANGE: Readonly<Record<Exclude<Change, 'gro'>, string>> = {
  up: 'cannot set up the interface of',
  promiscuous: 'without a daemon a network card may take only what is sent to itself, on',
};

export interface PortsSurroundings extends Omit<UpkeepSurroundings, 'ports'> {
  readonly virtualSwitch: VirtualSwitch;
  /** Flow tables that run in the kernel, those that were offered first in front. */
  tables(): Iterable<OffloadedSource>;
  /** A port has come or gone. */
  changed(): void;
}

export class PortOffloads implements Iterable<PortOffload> {
  readonly #around: PortsSurroundings;
  readonly #ports = new Map<number, PortOffload>();
  readonly #upkeep: PortUpkeep;
  readonly #shares: PuntShares;

  constructor(around: PortsSurroundings) {
    this.#around = around;
    this.#upkeep = new PortUpkeep({ ...around, ports: () => this.#ports.values() });
    this.#shares = new PuntShares(RING_SLOTS, (share, packets) => this.#refused(share, packets));
  }

  [Symbol.iterator](): Iterator<PortOffload> {
    return this.#ports.values();
  }

  /** What the kernel does for a port, in short; null when it does nothing. */
  summaryOf(port: DatapathPort): PortInfo['offload'] {
    const one = this.#ports.get(port.id);
    return one === undefined ? null : { hook: one.hook, reason: one.why, pending: one.awaitsXdp };
  }

  /** Packets of a port of the switch come up in vain. */
  holdBack(portId: number): void {
    this.#ports.get(portId)?.share?.holdBack(performance.now());
  }

  /** See {@link PortOffload.overload}. */
  overloadOf(port: DatapathPort): string | null {
    return this.#ports.get(port.id)?.overload ?? null;
  }

  of(port: DatapathPort): PortOffload | undefined {
    return this.#ports.get(port.id);
  }

  /** Id of the port with an interface; -1 for none. */
  idOf(ifindex: number): number {
    return this.#withInterface(ifindex)?.port.id ?? -1;
  }

  #withInterface(ifindex: number): PortOffload | undefined {
    for (const one of this.#ports.values()) if (one.ifindex === ifindex) return one;
    return undefined;
  }

  /** Packets of a port that is not to be offloaded come to the engine alone, whatever a former process has left. */
  silence(device: string): void {
    const link = withRouteClient((client) => client.findLink(device));
    if (link !== null) this.#around.takeover.silence(link.index);
  }

  /**
   * Put a program on a port, and take its punted packets.
   * @returns null, or why its packets must come by another way
   */
  begin(port: DatapathPort, ifindex: number): string | null {
    const { takeover, wayUp, changed } = this.#around;
    const one = new PortOffload(port, ifindex, false, takeover.holder);
    try {
      const base = wayUp.openForPorts();
      one.claim = wayUp.claim(ifindex, {
        onPunted: (batch) => this.#punted(one, batch),
        onResumed: (packet, record) => this.#resumed(one, packet, record),
      });
      base.begin(ifindex);
      if (!this.#takeUp(one)) one.attach('tc-ingress', base.program);
    } catch (error) {
      one.attachReason = messageOf(error);
    }
    if (one.tc === null) {
      this.#letGo(one);
      return one.attachReason ?? 'no program is on its interface';
    }
    one.share = this.#shares.open(new PortPunts(one, wayUp));
    one.refusals = this.#saysRefusals(port.name);
    this.#ports.set(port.id, one);
    this.#changeInterface(one);
    this.#readMtu(one);
    changed();
    if (one.asksForXdp) this.#upkeep.see(one, true);
    if (one.wanted !== 'xdp' && one.xdp !== null) this.#stopTakenXdp(one);
    this.#assign(one);
    this.#upkeep.sayXdp(one);
    return null;
  }

  /**
   * Take up the programs that a former process left on a port. They stay as long as the tables decide that they belong to.
   * @returns whether a program is there now
   */
  #takeUp(one: PortOffload): boolean {
    const { takeover, wayUp } = this.#around;
    const left = takeover.takePrograms(one.ifindex);
    if (left?.tc === undefined) return false;
    one.left = left;
    one.tc = left.tc;
    one.xdp = left.xdp ?? null;
    one.foreign = left.tc.foreign;
    const goesOn = takeover.isWaiting(one.ifindex) || this.isTaken(one.ifindex);
    if (!(one.asksForXdp && goesOn)) this.#stopTakenXdp(one);
    if (goesOn || (wayUp.base !== null && one.tc.replace(wayUp.base.program))) return true;
    one.tc = null;
    return false;
  }

  /** The program that a former process left at XDP does not go on. */
  #stopTakenXdp(one: PortOffload): void {
    if (one.xdp !== null) this.#around.takeover.park(one.xdp);
    one.xdp = null;
  }

  /** Whether tables decide about an interface that a table has taken up from a former process. */
  isTaken(ifindex: number): boolean {
    for (const table of this.#around.tables()) if (table.taken?.left.interfaces.has(ifindex)) return true;
    return false;
  }

  /** A TAP is there: its descriptor is read as ever, and programs may carry its flows past it. */
  beginTap(port: DatapathPort, ifindex: number): void {
    // It ends with the process, and its programs with it.
    const one = new PortOffload(port, ifindex, true, transientHolder);
    port.onWorkedOff = (packets) => {
      if (one.tc !== null) one.source?.flows.drained(one.ifindex, packets);
    };
    this.#ports.set(port.id, one);
    this.#readMtu(one);
    this.#around.changed();
    this.#assign(one);
  }

  #saysRefusals(name: string): Seldom {
    const { loop, warn } = this.#around;
    return new Seldom(
      (packets) => {
        const what = `${packets} packet${packets === 1 ? ' was' : 's were'} dropped before a flow was found for them`;
        warn(`port ${name}: ${what}, as it has more of them than its share`, name);
      },
      (delayMs, call) => void loop.timers.once(delayMs, { onTimer: call }),
    );
  }

  /** The port's NIC has other properties. */
  nicChanged(port: DatapathPort): void {
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#around.takeover.readdress(one.ifindex);
    this.#readMtu(one);
    this.#assign(one);
  }

  /** Something was said of a device with this index, in whichever network namespace; -1 for any device. */
  heard(ifindex: number): void {
    this.#upkeep.heard(ifindex);
  }

  /** The port's device goes, or the port. */
  end(port: DatapathPort): void {
    const { takeover, changed } = this.#around;
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#ports.delete(port.id);
    if (one.share !== null) this.#shares.close(one.share);
    this.#upkeep.forget(one);
    port.onWorkedOff = null;
    if (one.left !== null && takeover.isUnderWay) {
      // The start has failed: what was left is left again.
      this.#disclaim(one);
      takeover.giveBack(one.left);
      return;
    }
    one.source?.flows.removePort(one.ifindex);
    this.#letGo(one);
    changed();
  }

  /** The configuration is in force: change back what a former process has changed and this one does not need. */
  started(): void {
    for (const one of this.#ports.values()) this.#changeBack(one);
  }

  /** A table has come, or knows other ports: find the one that decides about each port. */
  assign(): void {
    for (const one of this.#ports.values()) this.#assign(one);
  }

  /** The programs of a table have changed. */
  putPrograms(of: OffloadedSource): void {
    for (const one of this.#ports.values()) if (one.source === of) this.#upkeep.putPrograms(one);
  }

  /** A table no longer runs in the kernel. @param comesBack whether programs of a former process go on with it */
  closeTable(gone: OffloadedSource, comesBack: boolean): void {
    for (const one of this.#ports.values()) {
      if (one.source !== gone) continue;
      if (comesBack && one.left !== null) Object.assign(one, { source: null, isOpen: false });
      else this.#assign(one);
    }
  }

  /** Packets that programs had handed up and that have not come. */
  lost(ifindex: number, packets: number): void {
    const one = this.#withInterface(ifindex);
    if (one === undefined) return;
    one.lostPunts += packets;
    // What a TAP has no room for its adapter knows.
    if (!one.isTap) one.port.countLost(packets);
  }

  /** End, and leave programs on their interfaces. */
  leave(): void {
    for (const one of this.#ports.values()) {
      one.port.onWorkedOff = null;
      this.#disclaim(one);
      if (one.isTap) one.detach();
    }
    this.#ports.clear();
    this.#upkeep.close();
  }

  /** Take everything off the interfaces. */
  close(): void {
    for (const one of this.#ports.values()) this.#letGo(one);
    this.#ports.clear();
    this.#upkeep.close();
  }

  #punted(one: PortOffload, batch: Batch): void {
    const { count } = batch;
    const beganMs = performance.now();
    this.#around.virtualSwitch.receive(one.port.id, 0, batch);
    this.#workedOff(one, count, beganMs);
    this.#around.wayUp.base?.workedOff(one.ifindex, count);
  }

  /** Packets that came up are done. */
  #workedOff(one: PortOffload, count: number, beganMs: number): void {
    one.source?.flows.drained(one.ifindex, count);
    const nowMs = performance.now();
    if (one.share !== null) this.#shares.workedOff(one.share, count, nowMs - beganMs, nowMs);
  }

  /** Packets that programs have dropped, as as many as the port's share were on their way up. */
  #refused(share: PuntShare, packets: number): void {
    for (const one of this.#ports.values()) {
      if (one.share !== share) continue;
      one.port.countLost(packets);
      one.refusals?.happened(packets);
      return;
    }
  }

  /** A packet that its table goes on with: the switch has had it. */
  #resumed(one: PortOffload, packet: Packet, record: PuntRecord): void {
    const { source } = one;
    const beganMs = performance.now();
    if (source?.source.resume === undefined) {
      packet.release();
      this.lost(one.ifindex, 1);
    } else source.source.resume(packet, one.port.id, record);
    this.#workedOff(one, 1, beganMs);
  }

  /** Have the interface as the programs need it, also when this process is no more. */
  #changeInterface(one: PortOffload): void {
    const { changes, folder, isUnderWay } = this.#around.takeover;
    for (const change of CHANGES) {
      if (!one.needs(change, folder !== null)) continue;
      try {
        for (const remains of changes.make(one.ifindex, change)) this.#around.warn(remains);
      } catch (error) {
        // What XDP lacks is said with all the rest of it.
        if (change === 'gro') continue;
        this.#around.warn(`${FAILED_CHANGE[change]} port ${one.port.name}: ${messageOf(error)}`);
      }
    }
    if (!isUnderWay) this.#changeBack(one);
  }

  #changeBack(one: PortOffload): void {
    const { changes, folder } = this.#around.takeover;
    for (const change of CHANGES) if (!one.needs(change, folder !== null)) changes.takeBack(one.ifindex, change);
  }

  #letGo(one: PortOffload): void {
    this.#around.wayUp.base?.end(one.ifindex);
    try {
      // It is set down, where it was down, before anybody else has it.
      this.#around.takeover.changes.takeAllBack(one.ifindex);
    } catch (error) {
      this.#around.warn(`port ${one.port.name}: ${messageOf(error)}`);
    }
    one.detach();
    this.#disclaim(one);
  }

  #disclaim(one: PortOffload): void {
    if (one.claim !== null) this.#around.wayUp.disclaim(one.ifindex);
    one.claim = null;
  }

  #readMtu(one: PortOffload): void {
    one.mtuBytes = this.#around.virtualSwitch.port(one.port.id).nics[0]?.mtuBytes ?? 0;
  }

  /** Find the table that decides about a port, and put its programs on it. */
  #assign(one: PortOffload): void {
    let wanted: OffloadedSource | null = null;
    for (const table of this.#around.tables()) if (table.has(one)) wanted ??= table;
    const before = one.source;
    const wasOpen = one.isOpen;
    one.source = wanted;
    one.isOpen = wanted?.isOpen(one) ?? false;
    const isOther = before !== wanted || wasOpen !== one.isOpen;
    // A program that does not know the port any more would leave its packets to the kernel: another comes first.
    if (isOther && !one.isOpen) this.#upkeep.putPrograms(one);
    if (before !== null && before !== wanted) before.flows.removePort(one.ifindex);
    wanted?.setPort(one);
    if (isOther && one.isOpen) this.#upkeep.putPrograms(one);
  }
}
