/**
 * One program on one interface: attaching it at its place among others, exchanging it between two packets, detaching it.
 * Neighbours: state.ts pins attachments so that they outlive the process; bpf/ has the links themselves.
 *
 * At tc the list of an interface is, in the order in which programs run:
 *
 *      | others, left alone | ours | isolation, which drops what is left |
 */
import {
  AttachConflictError,
  type AttachedProgram,
  attachTcx,
  attachXdp,
  BpfError,
  type BpfErrorCode,
  explainXdpRefusal,
  isRefusal,
  type Link,
  NoInterfaceError,
  type Program,
  queryNetdev,
  queryTcx,
  queryXdp,
  type TcxPosition,
} from '../../bpf/index.ts';

/** Where a program runs. */
export const HOOKS = ['tc-ingress', 'tc-egress', 'xdp'] as const;
export type Hook = (typeof HOOKS)[number];

/** The type of program that a hook takes. */
export const PROGRAM_TYPE = { 'tc-ingress': 'sched_cls', 'tc-egress': 'sched_cls', xdp: 'xdp' } as const;
/** The type of the link that holds a program at a hook. */
export const LINK_TYPE = { 'tc-ingress': 'tcx', 'tc-egress': 'tcx', xdp: 'xdp' } as const;

/**
 * The name of the program that keeps the kernel's stack off a port. It drops everything, so that ours has to stand before it.
 * The packet socket of host/ attaches it.
 */
const ISOLATION_PROGRAM = 'millrace_drop';

// Others may change the list while we look at it.
const ATTEMPTS = 5;

/** A program of somebody else, which stays where it is. */
export interface ForeignProgram {
  /** The name that the kernel keeps, up to 15 characters; may be empty. */
  readonly name: string;
  readonly id: number;
  readonly hook: Hook | ClassicHook;
}

/** Where filters with programs are on an interface: behind all of tc's list, so that they see only what ours lets pass. */
export type ClassicHook = 'clsact-ingress' | 'clsact-egress';

/** What to attach where. */
export interface AttachRequest {
  readonly program: Program;
  /** Name or index, in the calling thread's network namespace. */
  readonly netdev: string | number;
  readonly hook: Hook;
}

/** Why a program was not attached, when nothing is wrong with the program. */
export interface Refusal {
  readonly attachment: null;
  /** One sentence. */
  readonly reason: string;
  /** 'attach-conflict': somebody is there; 'unsupported': the device cannot; 'no-interface': there is none in this namespace. */
  readonly code: BpfErrorCode | 'system';
  readonly foreign: readonly ForeignProgram[];
}

/** What came of attaching. */
export type AttachResult = { readonly attachment: Attachment } | Refusal;

/** A program that is attached. */
export class Attachment {
  readonly hook: Hook;
  /** The interface's index when it was attached. */
  readonly ifindex: number;
  /** Programs of others that run before ours at this hook, as they were when it was attached or adopted. */
  readonly foreign: readonly ForeignProgram[];
  readonly #link: Link;

  constructor(link: Link, hook: Hook, ifindex: number) {
    this.#link = link;
    this.hook = hook;
    this.ifindex = ifindex;
    this.foreign = hook === 'xdp' ? [] : foreignBefore(ifindex, hook, link.info().id);
  }

  /** Whether the interface is still there. When it is not, only closing is left. */
  get present(): boolean {
    return !this.#link.closed && this.#link.info().ifindex !== 0;
  }

  /** The id of the program that runs now. @throws ClosedError, SystemError */
  get programId(): number {
    return this.#link.info().programId;
  }

  /**
   * Put another program in the place of the one that runs, between two packets: each packet meets one of them.
   * @returns false when the interface is gone
   * @throws SystemError, such as EINVAL for a program of another type
   */
  replace(program: Program): boolean {
    try {
      this.#link.update(program);
      return true;
    } catch (error) {
      if (error instanceof NoInterfaceError) return false;
      throw error;
    }
  }

  /** Keep it attached beyond the process. @throws SystemError */
  pin(path: string): void {
    this.#link.pin(path);
  }

  /** Take the program off, pinned or not. An interface that is gone is no error. Detaching twice is harmless. */
  detach(): void {
    if (this.#link.closed) return;
    this.#link.detach();
    this.#link.close();
  }

  /** Let go of it: a pinned one goes on working, another is detached. Closing twice is harmless. */
  close(): void {
    this.#link.close();
  }
}

/**
 * Attach a program. XDP runs in the driver or not at all: on skbs it would cost more than tc does.
 * @returns the attachment, or why there is none; the caller then takes another hook
 * @throws PrivilegeError, SystemError
 */
export function attach(request: AttachRequest): AttachResult {
  try {
    return { attachment: request.hook === 'xdp' ? atXdp(request) : atTc(request, request.hook) };
  } catch (error) {
    const reason = refusalOf(request, error);
    if (reason === null) throw error;
    const code = error instanceof BpfError ? error.code : 'system';
    return { attachment: null, reason, code, foreign: foreignAt(request) };
  }
}

function refusalOf({ hook, netdev }: AttachRequest, error: unknown): string | null {
  if (hook === 'xdp') return explainXdpRefusal(netdev, error);
  return isRefusal('tc', error) ? error.message : null;
}

function atXdp({ program, netdev, hook }: AttachRequest): Attachment {
  const link = attachXdp({ program, netdev, mode: 'driver' });
  return new Attachment(link, hook, link.info().ifindex);
}

function atTc({ program, netdev }: AttachRequest, hook: 'tc-ingress' | 'tc-egress'): Attachment {
  const direction = directionOf(hook);
  for (let attempt = 1; ; attempt += 1) {
    const list = queryTcx(netdev, direction);
    const isolation = list?.programs.find(({ name }) => name === ISOLATION_PROGRAM);
    const position: TcxPosition = isolation === undefined ? 'last' : { before: { programId: isolation.programId } };
    try {
      const expectedRevision = list?.revision ?? 0;
      const link = attachTcx({ program, netdev, direction, position, expectedRevision });
      return new Attachment(link, hook, link.info().ifindex);
    } catch (error) {
      if (!(error instanceof AttachConflictError) || attempt === ATTEMPTS) throw error;
    }
  }
}

function directionOf(hook: 'tc-ingress' | 'tc-egress'): 'ingress' | 'egress' {
  return hook === 'tc-ingress' ? 'ingress' : 'egress';
}

function foreignAt({ netdev, hook }: AttachRequest): ForeignProgram[] {
  return programsAt(netdev, hook)
    .filter(({ name }) => name !== ISOLATION_PROGRAM)
    .map((program) => foreign(program, hook));
}

/**
 * All programs of others on an interface, at any hook, for listings: XDP first, then those of tc in the order in which they run.
 * @param netdev name or index, in the calling thread's network namespace
 * @param ours ids of programs that are Millrace's, such as `attachment.programId`
 * @throws NoInterfaceError, PrivilegeError, SystemError
 */
export function foreignPrograms(netdev: string | number, ours: readonly number[]): ForeignProgram[] {
  const { xdp, tcx, clsact } = queryNetdev(netdev);
  const found: ForeignProgram[] = [];
  const note = (programs: readonly { name: string; programId: number }[], hook: Hook | ClassicHook): void => {
    for (const { name, programId } of programs) {
      if (name !== ISOLATION_PROGRAM && !ours.includes(programId)) found.push({ name, id: programId, hook });
    }
  };
  note(xdp === undefined ? [] : [xdp], 'xdp');
  note(tcx?.ingress.programs ?? [], 'tc-ingress');
  note(clsact.ingress, 'clsact-ingress');
  note(tcx?.egress.programs ?? [], 'tc-egress');
  note(clsact.egress, 'clsact-egress');
  return found;
}

/** In the order in which they run; none where there is no interface. */
function programsAt(netdev: string | number, hook: Hook): readonly AttachedProgram[] {
  try {
    if (hook !== 'xdp') return queryTcx(netdev, directionOf(hook))?.programs ?? [];
    const occupant = queryXdp(netdev);
    return occupant === undefined ? [] : [occupant];
  } catch (error) {
    if (error instanceof NoInterfaceError) return [];
    throw error;
  }
}

function foreignBefore(ifindex: number, hook: 'tc-ingress' | 'tc-egress', ourLinkId: number): ForeignProgram[] {
  const programs = programsAt(ifindex, hook);
  const ours = programs.findIndex(({ linkId }) => linkId === ourLinkId);
  return programs
    .slice(0, Math.max(0, ours))
    .filter(({ name }) => name !== ISOLATION_PROGRAM)
    .map((program) => foreign(program, hook));
}

function foreign({ name, programId }: AttachedProgram, hook: Hook): ForeignProgram {
  return { name, id: programId, hook };
}
