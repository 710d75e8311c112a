/** Marks DNS queries that come in, for routing rules and filters to see, with TC: `npx jiti examples/bpf/mark-dns.ts eth0 53` */
import { at, attachTc, loadProgram, ProgramBuilder, R1, R2, R3, R6, SK_BUFF, TC } from 'millrace/bpf';

/** Start marking. @param mark what `ip rule add fwmark ...` looks for @returns how to stop */
export function markDns(netdev: string, mark: number) {
  const b = new ProgramBuilder('mark_dns');
  b.mov(R6, R1);
  const next = b.label('next');
  b.packetOfTc(R6, R2, R3);
  b.needBytes(R2, R3, 42, R1, next);
  b.loadNetwork(R1, 'u16', at(R2, 12));
  b.jumpIf(R1, '!=', 0x0800, next); // IPv4
  b.load(R1, 'u8', at(R2, 14));
  b.jumpIf(R1, '!=', 0x45, next); // without options
  b.load(R1, 'u8', at(R2, 23));
  b.jumpIf(R1, '!=', 17, next); // UDP
  b.loadNetwork(R1, 'u16', at(R2, 36));
  b.if(R1, '==', 53, () => b.store('u32', at(R6, SK_BUFF.mark), mark));
  b.place(next);
  b.return(TC.NEXT); // Whoever stands behind in the list decides.

  const program = loadProgram({ type: 'sched_cls', code: b });
  const attached = attachTc({ program, netdev, direction: 'ingress', position: 'first' });
  return {
    close() {
      if (attached.kind === 'tcx') attached.link.close();
      else attached.filter.detach();
      program.close();
    },
  };
}

const [script, netdev, mark] = process.argv.slice(1);
if (script?.endsWith('mark-dns.ts') && netdev !== undefined) {
  markDns(netdev, Number(mark ?? 53));
  setInterval(() => undefined, 1000); // The mark is set for as long as the process, and so the link, lives.
}
