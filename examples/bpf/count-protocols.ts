/** Counts the IPv4 packets of an interface by protocol, with XDP: `npx jiti examples/bpf/count-protocols.ts eth0` */
import { ArrayMap, at, attachXdp, count64, loadProgram, ProgramBuilder, R0, R1, R2, R3, XDP } from 'millrace/bpf';

/** Start counting. @returns how to read the count of a protocol, and how to stop */
export function countProtocols(netdev: string) {
  const counts = ArrayMap.create({ name: 'protocols', value: count64, maxEntries: 256, mappable: true });

  const b = new ProgramBuilder('count_protocols');
  b.packetOfXdp(R1, R2, R3); // R1 is the context; R2 becomes the first byte, R3 the end.
  b.needBytes(R2, R3, 34, R0, () => b.return(XDP.PASS));
  b.loadNetwork(R0, 'u16', at(R2, 12));
  b.if(R0, '!=', 0x0800, () => b.return(XDP.PASS));
  b.load(R0, 'u8', at(R2, 23));
  const protocol = b.stack(4);
  b.store('u32', protocol, R0);
  b.lookup(counts, protocol, () => {
    b.mov(R1, 1);
    b.atomic('add', 'u64', at(R0), R1); // R0 is the address of the value.
  });
  b.return(XDP.PASS);

  const program = loadProgram({ type: 'xdp', code: b });
  const link = attachXdp({ program, netdev });
  const values = counts.map(); // The kernel's memory: reading it costs no system call.
  return {
    packetsOf: (number: number) => values.get(number),
    close() {
      for (const handle of [link, program, counts]) handle.close();
    },
  };
}

const [script, netdev] = process.argv.slice(1);
if (script?.endsWith('count-protocols.ts') && netdev !== undefined) {
  const counter = countProtocols(netdev);
  setInterval(() => {
    const [icmp, tcp, udp] = [1, 6, 17].map(counter.packetsOf);
    console.log(`ICMP ${icmp}, TCP ${tcp}, UDP ${udp}`);
  }, 1000);
}
