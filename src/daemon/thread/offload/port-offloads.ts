/**
 * The ports whose packets come through programs, or whose flows programs carry: they begin, change and end here, each gets the flow table that
 * decides about it, and what is punted goes on to the switch. Neighbours: port-offload.ts is one port, flow-tables.ts has the tables.
 */
import { withRouteClient } from '../../../host/index.ts';
import type { Batch } from '../../../net/index.ts';
import type { VirtualSwitch } from '../../../switch/index.ts';
import { messageOf } from '../../rpc/failure.ts';
import type { DatapathPort } from '../port.ts';
import { CHANGES, type Change } from './interface-changes.ts';
import { transientHolder } from './kept.ts';
import { PortOffload } from './port-offload.ts';
import type { OffloadedSource } from './source.ts';
import type { Takeover } from './takeover.ts';
import type { WayUp } from './way-up.ts';

const FAILED_CHANGE: Readonly<Record<Change, string>> = {
  up: 'cannot set up the interface of',
  promiscuous: 'without a daemon a network card may take only what is sent to itself, on',
  gro: 'XDP cannot send to',
};

export interface PortsSurroundings {
  readonly virtualSwitch: VirtualSwitch;
  readonly takeover: Takeover;
  readonly wayUp: WayUp;
  /** Flow tables that run in the kernel, those that were offered first in front. */
  tables(): Iterable<OffloadedSource>;
  /** A port has come or gone. */
  changed(): void;
  warn(message: string): void;
}

export class PortOffloads implements Iterable<PortOffload> {
  readonly #around: PortsSurroundings;
  readonly #ports = new Map<number, PortOffload>();

  constructor(around: PortsSurroundings) {
    this.#around = around;
  }

  [Symbol.iterator](): Iterator<PortOffload> {
    return this.#ports.values();
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
      one.claim = wayUp.claim(ifindex, (batch) => this.#punted(one, batch));
      if (!this.#takeUp(one)) one.attach('tc-ingress', base);
    } catch (error) {
      one.attachReason = messageOf(error);
    }
    if (one.tc === null) {
      this.#letGo(one);
      return one.attachReason ?? 'no program is on its interface';
    }
    const { config } = port;
    if (config.kind === 'netdev' && config.offload === 'xdp') one.wanted = 'xdp';
    this.#ports.set(port.id, one);
    this.#changeInterface(one);
    this.#readMtu(one);
    changed();
    this.#assign(one);
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
    const { config } = one.port;
    const wantsXdp = config.kind === 'netdev' && config.offload === 'xdp';
    const goesOn = takeover.isWaiting(one.ifindex) || this.isTaken(one.ifindex);
    if (one.xdp !== null && !(wantsXdp && goesOn)) {
      takeover.park(one.xdp);
      one.xdp = null;
    }
    if (goesOn || (wayUp.base !== null && one.tc.replace(wayUp.base))) return true;
    one.tc = null;
    return false;
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

  /** The port's NIC has other properties. */
  nicChanged(port: DatapathPort): void {
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#around.takeover.readdress(one.ifindex);
    this.#readMtu(one);
    this.#assign(one);
  }

  /** The port's device goes, or the port. */
  end(port: DatapathPort): void {
    const { takeover, changed } = this.#around;
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#ports.delete(port.id);
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
    for (const one of this.#ports.values()) if (one.source === of) this.#putPrograms(one);
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
  }

  /** Take everything off the interfaces. */
  close(): void {
    for (const one of this.#ports.values()) this.#letGo(one);
    this.#ports.clear();
  }

  #punted(one: PortOffload, batch: Batch): void {
    const { count } = batch;
    this.#around.virtualSwitch.receive(one.port.id, 0, batch);
    one.source?.flows.drained(one.ifindex, count);
  }

  /** Have the interface as the programs need it, also when this process is no more. */
  #changeInterface(one: PortOffload): void {
    const { changes, folder, isUnderWay } = this.#around.takeover;
    for (const change of CHANGES) {
      if (!one.needs(change, folder !== null)) continue;
      try {
        changes.make(one.ifindex, change);
        if (change === 'gro') one.xdpOutput = true;
      } catch (error) {
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
    if (isOther && !one.isOpen) this.#putPrograms(one);
    if (before !== null && before !== wanted) before.flows.removePort(one.ifindex);
    wanted?.setPort(one);
    if (isOther && one.isOpen) this.#putPrograms(one);
  }

  /** Put the programs of a port's table on it, or those that hand everything up. */
  #putPrograms(one: PortOffload): void {
    const staysAtTc = one.putPrograms(this.#around.wayUp.base);
    if (staysAtTc === null) return;
    this.#around.warn(`port ${one.port.name} is offloaded at tc instead of xdp: ${staysAtTc}`);
  }
}
