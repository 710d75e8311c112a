/**
 * Keeping the kernel's own stack off a port that Millrace has taken over. Without this the kernel would answer ARP, ping and
 * TCP on the port's addresses beside us, and send packets of its own out of it.
 *
 * The means is an eBPF program that drops everything (drop-program.ts) at both traffic-control hooks of the device. Packet sockets see
 * frames before the ingress hook; what the port's own socket sends, and what Millrace's programs redirect, carries a mark that the
 * program at the egress hook knows. So exactly the kernel's share is dropped.
 * It is attached by TCX links (tcx.ts), which vanish with the process, or where there are none by filters (tc-filter.ts), which know no
 * marks: there the socket sends past the egress hook (PACKET_QDISC_BYPASS).
 *
 * Whoever may attach programs may take ours off, and the kernel tells nobody: `holds` asks, `putBack` mends it.
 *
 * The program goes behind those that are there: nobody else's is displaced. Any of them that ends the chain with a verdict of
 * its own (TCX_PASS, a redirect) acts before our drop; that they exist is reported as a warning.
 */
import { DROP_PROGRAM_NAME, loadDropProgram } from './drop-program.ts';
import { type FileDescriptor, hurried, SystemError } from './sys/index.ts';
import { FilterPair } from './tc-filter.ts';
import { attachTcx, isTied, programName, TcxHook, tcxPrograms } from './tcx.ts';

/** How the kernel is kept off a port. */
export type IsolationMeans = 'tcx' | 'tc-filter' | 'none';

/** What was done to a device; closing it undoes that. */
export interface Isolation {
  readonly means: IsolationMeans;
  /** Sentences for the user; when `means` is 'none' one of them says why. */
  readonly warnings: readonly string[];
  /**
   * Whether the programs are where they were put. The kernel answers under the lock of all interfaces. Those of a device that has gone are not.
   * @throws SystemError
   */
  holds(): boolean;
  /**
   * Put the programs back that are not where they were put. The calling thread has to be in the device's network namespace.
   * @throws SystemError
   */
  putBack(): void;
  /** Give the device back to the kernel. Closing twice is harmless. */
  close(): void;
}

/**
 * Keep the kernel off a device.
 * @param interfaceIndex in the calling thread's network namespace
 * @param name for messages
 * @param allowTcx false to use filters even where the kernel has TCX
 * @returns what was done; it never fails, because a port without isolation still works
 */
export function isolate(interfaceIndex: number, name: string, allowTcx = true): Isolation {
  let program: FileDescriptor | null = null;
  try {
    program = loadDropProgram();
    if (allowTcx) {
      try {
        return byLinks(program, interfaceIndex, name);
      } catch (error) {
        // EINVAL is what kernels before 6.6 say; whatever it is, filters may still do.
        if (!(error instanceof SystemError)) throw error;
      }
    }
    return byFilters(program, interfaceIndex, name);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const warning = `the kernel's own stack still receives and sends on ${name}: ${error.message}; if it answers in place of hosts behind Millrace, remove its addresses (ip addr flush dev ${name})`;
    return { means: 'none', warnings: [warning], holds: () => true, putBack: () => {}, close: () => {} };
  } finally {
    program?.close();
  }
}

/** @throws SystemError */
function byLinks(program: FileDescriptor, interfaceIndex: number, name: string): Isolation {
  const links = new Map<number, FileDescriptor>();
  const close = (): void => {
    hurried(() => {
      for (const link of links.values()) link.close();
    });
    links.clear();
  };
  try {
    const warnings: string[] = [];
    const wayOut = loadDropProgram(true);
    try {
      for (const hook of [TcxHook.INGRESS, TcxHook.EGRESS]) {
        const others = tcxPrograms(interfaceIndex, hook).filter((id) => !isFastPath(programName(id)));
        if (others.length > 0) warnings.push(othersWarning(name, `eBPF programs (ids ${others.join(', ')})`));
        links.set(hook, attachTcx(hook === TcxHook.EGRESS ? wayOut : program, interfaceIndex, hook));
      }
    } finally {
      wayOut.close();
    }
    return {
      means: 'tcx',
      warnings,
      holds: () => [...links.values()].every(isTied),
      putBack: () => putLinksBack(links, interfaceIndex),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** @throws SystemError */
function putLinksBack(links: Map<number, FileDescriptor>, interfaceIndex: number): void {
  for (const [hook, link] of links) {
    if (isTied(link)) continue;
    const program = loadDropProgram(hook === TcxHook.EGRESS);
    try {
      links.set(hook, attachTcx(program, interfaceIndex, hook));
    } finally {
      program.close();
    }
    link.close();
  }
}

/** Programs of Millrace's own fast path have names that begin so; they stand before ours and are no news. */
function isFastPath(name: string): boolean {
  return name.startsWith('millrace') && name !== DROP_PROGRAM_NAME;
}

/** @throws SystemError */
function byFilters(program: FileDescriptor, interfaceIndex: number, name: string): Isolation {
  const pair = new FilterPair(program, interfaceIndex);
  const warnings = pair.others > 0 ? [othersWarning(name, 'tc filters')] : [];
  return {
    means: 'tc-filter',
    warnings,
    holds: () => pair.holds(),
    putBack: () => {
      const again = loadDropProgram();
      try {
        pair.put(again);
      } finally {
        again.close();
      }
    },
    close: () => pair.close(),
  };
}

function othersWarning(name: string, what: string): string {
  return `${what} of others run on ${name} before Millrace's and may still pass packets to the kernel`;
}
