/** Where a tunnel port is: its datapath, as tunnels know it, and the port as it is known there and on the wire. */
import type { Packet } from '../../../net/index.ts';
import type { TunnelPort } from '../../../tunnels/index.ts';
import type { OvsDevice } from '../host.ts';
import type { OvsPort } from '../port-number.ts';
import type { Vport } from '../vport.ts';

/** What a datapath does for tunnels. */
export interface TunnelledDatapath {
  readonly ports: ReadonlyMap<OvsPort, Vport>;
  /** Take in a packet, whose reference passes over. @param tunnel its key, TUNNEL_WORDS long; null for a frame that came by no tunnel */
  receiveTunnelled(packet: Packet, number: OvsPort, tunnel: Uint32Array | null, l3Type: number): void;
  /** Send a frame by a port with a device. @returns 0 or a reason of Drop */
  sendBy(port: Vport, device: OvsDevice, packet: Packet): number;
  /** A packet that had been taken over was dropped after all. */
  droppedLater(reason: number): void;
  /** What flows may send where has changed. */
  portsChanged(): void;
}

/** A tunnel port and where it is. */
export interface TunnelPlace {
  readonly datapath: TunnelledDatapath;
  readonly vport: Vport;
  readonly port: TunnelPort;
}
