/** Tells of every TCP connection that is asked for, through a ring of events: `npx jiti examples/bpf/connections.ts eth0` */
import {
  at,
  attachXdp,
  bytes,
  EventRing,
  loadProgram,
  ProgramBuilder,
  R0,
  R1,
  R6,
  R7,
  struct,
  u16be,
  type ValueOf,
  XDP,
} from 'millrace/bpf';

const connection = struct({ source: bytes(4), destination: bytes(4), sourcePort: u16be, destinationPort: u16be });

/** What is told of a connection. Addresses are in network order. */
export type Connection = ValueOf<typeof connection>;

/** Start telling. @returns how to take what was told, how much was lost, and how to stop */
export function watchConnections(netdev: string) {
  const events = EventRing.create({ name: 'connections', sizeBytes: 1 << 16, event: connection });

  const b = new ProgramBuilder('connections');
  const pass = b.label('pass');
  b.packetOfXdp(R1, R6, R7);
  b.needBytes(R6, R7, 54, R0, pass);
  b.loadNetwork(R0, 'u32', at(R6, 12));
  b.jumpIf(R0, '!=', 0x08004500, pass); // IPv4 without options or traffic class
  b.load(R0, 'u8', at(R6, 23));
  b.jumpIf(R0, '!=', 6, pass); // TCP
  b.load(R0, 'u8', at(R6, 47));
  b.and(R0, 0x12);
  b.jumpIf(R0, '!=', 0x02, pass); // SYN, and not ACK
  const event = b.stack(connection.sizeBytes);
  for (let offset = 0; offset < 12; offset += 4) {
    // Addresses and ports lie in the packet as they lie in the event.
    b.load(R0, 'u32', at(R6, 26 + offset));
    b.store('u32', event.at(offset), R0);
  }
  events.send(b, event);
  b.place(pass);
  b.return(XDP.PASS);

  const program = loadProgram({ type: 'xdp', code: b });
  const link = attachXdp({ program, netdev });
  return {
    take: (handler: (event: Connection) => void) => events.read(handler),
    lost: () => events.lost,
    close() {
      for (const handle of [link, program, events]) handle.close();
    },
  };
}

const [script, netdev] = process.argv.slice(1);
if (script?.endsWith('connections.ts') && netdev !== undefined) {
  const watch = watchConnections(netdev);
  setInterval(() => {
    watch.take(({ source, sourcePort, destination, destinationPort }) =>
      console.log(`${source.join('.')}:${sourcePort} -> ${destination.join('.')}:${destinationPort}`),
    );
  }, 100);
}
