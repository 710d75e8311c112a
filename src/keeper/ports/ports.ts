/**
 * The ports whose packets come through programs, or whose flows programs carry: they begin, change and end here, each gets the flow table that
 * decides about it, and what is punted goes on to the switch. Neighbours: port.ts is one port, port-upkeep.ts sees that its programs stay,
 * interface-changes.ts is what is changed for them.
 */
import { type PuntRecord, withRouteClient } from '../../host/index.ts';
import { Batch, type InterfaceIndex, type Packet, type PortId } from '../../net/index.ts';
import { type KeeperHost, type KeptPort, messageOf } from '../contract.ts';
import { transientHolder } from '../left/kept.ts';
import type { Takeover } from '../left/takeover.ts';
import { PortPunts } from '../punts/port-punts.ts';
import { type PuntPath, RING_SLOTS } from '../punts/punt-path.ts';
import { type PuntShare, PuntShares } from '../punts/punt-shares.ts';
import type { PortSummary } from '../shown.ts';
import type { KeptTable } from '../tables/table.ts';
import type { TableSet } from '../tables/table-set.ts';
import { CHANGES, type Change } from './interface-changes.ts';
import { PortPrograms } from './port.ts';
import { PortUpkeep } from './port-upkeep.ts';

const FAILED_CHANGE: Readonly<Record<Exclude<Change, 'gro'>, string>> = {
  up: 'cannot set up the interface of',
  promiscuous: 'without a daemon a network card may take only what is sent to itself, on',
};

export class KeptPorts implements Iterable<PortPrograms> {
  /** Told when a port has come or gone. */
  onChanged: () => void = () => {};
  readonly #host: KeeperHost;
  readonly #takeover: Takeover;
  readonly #puntPath: PuntPath;
  readonly #tables: TableSet;
  readonly #ports = new Map<PortId, PortPrograms>();
  readonly #upkeep: PortUpkeep;
  readonly #shares: PuntShares;
  /** Used for one packet at a time. */
  readonly #anew = new Batch();

  constructor(host: KeeperHost, takeover: Takeover, puntPath: PuntPath, tables: TableSet) {
    this.#host = host;
    this.#takeover = takeover;
    this.#puntPath = puntPath;
    this.#tables = tables;
    this.#upkeep = new PortUpkeep(host, takeover, puntPath, this);
    this.#shares = new PuntShares(RING_SLOTS, (share, packets) => this.#refused(share, packets));
  }

  [Symbol.iterator](): Iterator<PortPrograms> {
    return this.#ports.values();
  }

  /** What the kernel does for a port of the switch, in short; null when it does nothing. */
  summaryOf(portId: PortId): PortSummary | null {
    const one = this.#ports.get(portId);
    return one === undefined ? null : { hook: one.hook, reason: one.why, pending: one.awaitsXdp };
  }

  /** Packets of a port of the switch come up in vain. */
  holdBack(portId: PortId): void {
    this.#ports.get(portId)?.share?.holdBack(performance.now());
  }

  /** By the switch's number. */
  of(portId: PortId): PortPrograms | undefined {
    return this.#ports.get(portId);
  }

  /** Id of the port with an interface; -1 for none. */
  idOf(ifindex: InterfaceIndex): PortId | -1 {
    return this.#withInterface(ifindex)?.port.id ?? -1;
  }

  #withInterface(ifindex: InterfaceIndex): PortPrograms | undefined {
    for (const one of this.#ports.values()) if (one.ifindex === ifindex) return one;
    return undefined;
  }

  /** Packets of an interface that is not to be offloaded come to the engine alone, whatever a former process has left. */
  silence(device: string): void {
    const link = withRouteClient((client) => client.findLink(device));
    if (link !== null) this.#takeover.silence(link.index);
  }

  /**
   * Put a program on a port, and take its punted packets.
   * @returns null, or why its packets must come by another way
   */
  begin(port: KeptPort, ifindex: InterfaceIndex): string | null {
    const one = new PortPrograms(port, ifindex, false, this.#takeover.holder);
    try {
      const base = this.#puntPath.openForPorts();
      one.claim = this.#puntPath.claim(ifindex, {
        onPunted: (batch) => this.#punted(one, batch),
        onResumed: (packet, record) => this.#resumed(one, packet, record),
      });
      base.begin(ifindex);
      if (!this.#takeUp(one)) one.attach('tc-ingress', base.program);
    } catch (error) {
      one.attachReason = messageOf(error);
    }
    if (one.state === 'away') {
      this.#letGo(one);
      return one.attachReason ?? 'no program is on its interface';
    }
    one.share = this.#shares.open(new PortPunts(one, this.#puntPath));
    this.#ports.set(port.id, one);
    this.#changeInterface(one);
    this.onChanged();
    if (one.asksForXdp) this.#upkeep.see(one, true);
    if (one.wanted !== 'xdp' && one.xdp !== null) this.#stopTakenXdp(one);
    this.#assign(one);
    this.#sayAbsences(one.source);
    this.#upkeep.sayXdp(one);
    return null;
  }

  /**
   * Take up the programs that a former process left on a port. They stay as long as the tables decide that they belong to.
   * @returns whether a program is there now
   */
  #takeUp(one: PortPrograms): boolean {
    const left = this.#takeover.takePrograms(one.ifindex);
    if (left?.tc === undefined) return false;
    one.left = left;
    one.tc = left.tc;
    one.xdp = left.xdp ?? null;
    one.foreign = left.tc.foreign;
    const goesOn = this.#takeover.isWaiting(one.ifindex) || this.#tables.isTaken(one.ifindex);
    if (!(one.asksForXdp && goesOn)) this.#stopTakenXdp(one);
    if (goesOn || (this.#puntPath.base !== null && one.tc.replace(this.#puntPath.base.program))) return true;
    one.tc = null;
    return false;
  }

  /** The program that a former process left at XDP does not go on. */
  #stopTakenXdp(one: PortPrograms): void {
    if (one.xdp !== null) this.#takeover.park(one.xdp);
    one.xdp = null;
  }

  /** A TAP is there: its descriptor is read as ever, and programs may carry its flows past it. */
  beginTap(port: KeptPort, ifindex: InterfaceIndex): void {
    // It ends with the process, and its programs with it.
    const one = new PortPrograms(port, ifindex, true, transientHolder);
    port.onWorkedOff = (packets) => {
      if (one.tc !== null) one.source?.flows.drained(one.ifindex, packets);
    };
    this.#ports.set(port.id, one);
    this.onChanged();
    this.#assign(one);
    this.#sayAbsences(one.source);
  }

  /** The port's NIC has other properties. */
  nicChanged(port: KeptPort): void {
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#assign(one);
    this.#takeover.readdress(one.ifindex);
    if (port.isLinkDown) this.#takeover.lostLink(one.ifindex);
  }

  /** Something was said of a device with this index, in whichever network namespace; -1 for any device. */
  heard(ifindex: number): void {
    this.#upkeep.heard(ifindex);
  }

  /** The port's device goes, or the port. */
  end(port: KeptPort): void {
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#ports.delete(port.id);
    if (one.share !== null) this.#shares.close(one.share);
    this.#upkeep.forget(one);
    port.onWorkedOff = null;
    if (one.left !== null && this.#takeover.isUnderWay) {
      // The start has failed: what was left is left again.
      this.#disclaim(one);
      this.#takeover.giveBack(one.left);
      return;
    }
    const { source } = one;
    source?.flows.removePort(one.ifindex);
    this.#letGo(one);
    this.#sayAbsences(source);
    this.onChanged();
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
  putPrograms(of: KeptTable): void {
    for (const one of this.#ports.values()) if (one.source === of) this.#upkeep.putPrograms(one);
  }

  /** A table no longer runs in the kernel. @param comesBack whether programs of a former process go on with it */
  closeTable(gone: KeptTable, comesBack: boolean): void {
    for (const one of this.#ports.values()) {
      if (one.source !== gone) continue;
      if (comesBack && one.left !== null) one.decideBy(null, false);
      else this.#assign(one);
    }
  }

  /** Packets that programs had handed up and that have not come. */
  lost(ifindex: InterfaceIndex, packets: number): void {
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

  #punted(one: PortPrograms, batch: Batch): void {
    const { count } = batch;
    const beganMs = performance.now();
    one.port.receive(batch);
    this.#workedOff(one, count, beganMs);
    this.#puntPath.base?.workedOff(one.ifindex, count);
  }

  /** Packets that came up are done. */
  #workedOff(one: PortPrograms, count: number, beganMs: number): void {
    one.source?.flows.drained(one.ifindex, count);
    const nowMs = performance.now();
    if (one.share !== null) this.#shares.workedOff(one.share, count, nowMs - beganMs, nowMs);
  }

  /** Packets that programs have dropped, because as many as the port's share were on their way up. */
  #refused(share: PuntShare, packets: number): void {
    for (const one of this.#ports.values()) {
      if (one.share !== share) continue;
      one.port.refused(packets);
      return;
    }
  }

  /** A packet that its table goes on with: the switch has had it. */
  #resumed(one: PortPrograms, packet: Packet, record: PuntRecord): void {
    const { source } = one;
    const beganMs = performance.now();
    if (source?.source.beginsAnew?.(record) === true) {
      this.#anew.push(packet);
      one.port.receive(this.#anew);
    } else if (source?.source.resume === undefined) {
      packet.release();
      this.lost(one.ifindex, 1);
    } else {
      source.down.cameBack(record);
      source.source.resume(packet, one.port.id, record);
    }
    this.#workedOff(one, 1, beganMs);
  }

  /** Have the interface as the programs need it, also when this process is no more. */
  #changeInterface(one: PortPrograms): void {
    const { changes, folder, isUnderWay } = this.#takeover;
    for (const change of CHANGES) {
      if (!one.needs(change, folder !== null)) continue;
      try {
        if (change === 'up' && one.port.isNewcomer) changes.makeForGood(one.ifindex, change);
        else for (const remains of changes.make(one.ifindex, change)) this.#host.warn(remains);
      } catch (error) {
        // What XDP lacks is said with all the rest of it.
        if (change === 'gro') continue;
        this.#host.warn(`${FAILED_CHANGE[change]} port ${one.port.name}: ${messageOf(error)}`);
      }
    }
    if (!isUnderWay) this.#changeBack(one);
  }

  #changeBack(one: PortPrograms): void {
    const { changes, folder } = this.#takeover;
    try {
      changes.takeAllBack(one.ifindex, (change) => !one.needs(change, folder !== null));
    } catch (error) {
      // It stays noted, and is changed back when the port ends.
      this.#host.warn(`port ${one.port.name}: ${messageOf(error)}`, one.port.name);
    }
  }

  #letGo(one: PortPrograms): void {
    this.#puntPath.base?.end(one.ifindex);
    try {
      // It is set down, where it was down, before anybody else has it.
      this.#takeover.changes.takeAllBack(one.ifindex);
    } catch (error) {
      this.#host.warn(`port ${one.port.name}: ${messageOf(error)}`);
    }
    one.detach();
    this.#disclaim(one);
  }

  #disclaim(one: PortPrograms): void {
    if (one.claim !== null) this.#puntPath.disclaim(one.ifindex);
    one.claim = null;
  }

  /** Find the table that decides about a port, and put its programs on it. */
  #assign(one: PortPrograms): void {
    const wanted = this.#tables.decidingAbout(one);
    const before = one.source;
    const isOther = one.decideBy(wanted, wanted?.isOpen(one) ?? false);
    // A program that does not know the port any more would leave its packets to the kernel: another comes first.
    if (isOther && !one.isOpen) this.#upkeep.putPrograms(one);
    if (before !== null && before !== wanted) before.flows.removePort(one.ifindex);
    wanted?.setPort(one);
    if (isOther && one.isOpen) this.#upkeep.putPrograms(one);
    if (before !== wanted) this.#sayAbsences(wanted);
  }

  /** A port is not among those of some tables for another reason than before. @param but a table that knows by itself */
  #sayAbsences(but: KeptTable | null): void {
    for (const table of this.#tables.running()) if (table !== but) table.flows.absencesChanged();
  }
}
