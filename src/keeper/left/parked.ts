/**
 * Programs of a former daemon that stand aside while the next one starts, with others in their place: should the start fail, they run again.
 * Neighbour: takeover.ts decides which.
 */
import { loadProgram, Program, ProgramBuilder, TC, XDP } from '../../bpf/index.ts';
import type { Attachment } from '../../offload/index.ts';

export class ParkedPrograms {
  readonly #former = new Map<Attachment, Program>();
  #tc: Program | null = null;
  #xdp: Program | null = null;

  /**
   * Have an attachment's program stand aside. At tc packets then reach packet sockets, and nobody else; at XDP they go on to tc.
   * @throws VerifierError, PrivilegeError, SystemError
   */
  park(attachment: Attachment): void {
    if (this.#former.has(attachment) || !attachment.present) return;
    const isXdp = attachment.hook === 'xdp';
    const former = Program.byId(attachment.programId, isXdp ? 'xdp' : 'sched_cls');
    this.#former.set(attachment, former);
    attachment.replace(isXdp ? this.#xdpProgram() : this.#tcProgram());
  }

  /** Put a program in the place of one that runs, or of one that stands aside. */
  replace(attachment: Attachment, program: Program): void {
    const former = this.#former.get(attachment);
    if (former !== undefined) {
      this.#former.set(attachment, Program.byId(program.info().id, program.type));
      former.close();
    } else if (attachment.present) attachment.replace(program);
  }

  /** Have programs run again. */
  restore(which: (attachment: Attachment) => boolean): void {
    for (const [attachment, former] of this.#former) {
      if (!which(attachment)) continue;
      if (attachment.present) attachment.replace(former);
      former.close();
      this.#former.delete(attachment);
    }
  }

  /** Those at XDP do not run again. @returns where they stood aside */
  forgetXdp(): Attachment[] {
    const attachments = [...this.#former.keys()].filter(({ hook }) => hook === 'xdp');
    for (const attachment of attachments) {
      this.#former.get(attachment)?.close();
      this.#former.delete(attachment);
    }
    return attachments;
  }

  /** Let go; what stands aside stays aside. */
  close(): void {
    for (const former of this.#former.values()) former.close();
    this.#former.clear();
    this.#tc?.close();
    this.#xdp?.close();
    this.#tc = null;
    this.#xdp = null;
  }

  #tcProgram(): Program {
    this.#tc ??= returning('sched_cls', TC.SHOT);
    return this.#tc;
  }

  #xdpProgram(): Program {
    this.#xdp ??= returning('xdp', XDP.PASS);
    return this.#xdp;
  }
}

function returning(type: 'sched_cls' | 'xdp', verdict: number): Program {
  const b = new ProgramBuilder('millrace_wait');
  b.return(verdict);
  return loadProgram({ type, code: b });
}
