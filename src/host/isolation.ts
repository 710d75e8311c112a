/**
 * Keeping the kernel's own stack off a port that Millrace has taken over. Without this the kernel would answer ARP, ping and
 * TCP on the port's addresses beside us, and send packets of its own out of it.
 *
 * The means is an eBPF program that drops everything (drop-program.ts) at both traffic-control hooks of the device. Packet sockets see
 * frames before the ingress hook, and sends with PACKET_QDISC_BYPASS skip the egress hook; so exactly the kernel's share is dropped.
 *
 * The program goes behind those that are there: nobody else's is displaced. Any of them that ends the chain with a verdict of
 * its own (TCX_PASS, a redirect) acts before our drop; that they exist is reported as a warning.
 */
import { loadDropProgram } from './drop-program.ts';
import { type FileDescriptor, SystemError } from './sys/index.ts';
import { attachTcx, TcxHook, tcxPrograms } from './tcx.ts';

/** How the kernel is kept off a port. */
export type IsolationMeans = 'tcx' | 'tc-filter' | 'none';

/** What was done to a device; closing it undoes that. */
export interface Isolation {
  readonly means: IsolationMeans;
  /** Sentences for the user; when `means` is 'none' one of them says why. */
  readonly warnings: readonly string[];
  /** Give the device back to the kernel. Closing twice is harmless. */
  close(): void;
}

class LinkIsolation implements Isolation {
  readonly means = 'tcx';
  readonly warnings: readonly string[];
  readonly #links: FileDescriptor[];

  constructor(links: FileDescriptor[], warnings: string[]) {
    this.#links = links;
    this.warnings = warnings;
  }

  close(): void {
    for (const link of this.#links) link.close();
  }
}

class NoIsolation implements Isolation {
  readonly means = 'none';
  readonly warnings: readonly string[];

  constructor(warning: string) {
    this.warnings = [warning];
  }

  close(): void {}
}

/** No isolation, with the reason for it. */
function unprotected(name: string, reason: string): Isolation {
  return new NoIsolation(
    `the kernel's own stack still receives and sends on ${name}: ${reason}; remove its addresses (ip addr flush dev ${name}) if it answers for hosts behind Millrace`,
  );
}

/**
 * Keep the kernel off a device.
 * @param interfaceIndex in the calling thread's network namespace
 * @param name for messages
 * @returns what was done; it never fails, because a port without isolation still works
 */
export function isolate(interfaceIndex: number, name: string): Isolation {
  let program: FileDescriptor;
  try {
    program = loadDropProgram();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return unprotected(name, error.message);
  }
  const links: FileDescriptor[] = [];
  try {
    const warnings: string[] = [];
    for (const hook of [TcxHook.INGRESS, TcxHook.EGRESS]) {
      const others = tcxPrograms(interfaceIndex, hook);
      if (others.length > 0) {
        const where = hook === TcxHook.INGRESS ? 'ingress' : 'egress';
        warnings.push(
          `eBPF programs of others run at the ${where} of ${name} before Millrace's and may still pass packets to the kernel (ids ${others.join(', ')})`,
        );
      }
      links.push(attachTcx(program, interfaceIndex, hook));
    }
    return new LinkIsolation(links, warnings);
  } catch (error) {
    for (const link of links) link.close();
    if (!(error instanceof SystemError)) throw error;
    return unprotected(name, error.message);
  } finally {
    program.close();
  }
}
