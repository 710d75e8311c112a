/**
 * What can the running kernel do? Each feature has a probe that asks by doing, a name, and the Linux it came with. Answers are kept.
 * Neighbour: feature/raw.ts has the probes for types and helpers.
 */
import { closeDescriptor } from '../../host/sys/index.ts';
import { Assembler } from '../asm/assembler.ts';
import { at, type Label, R0, R1, R2, R10 } from '../asm/operands.ts';
import { UnsupportedError } from '../errors.ts';
import { createLink } from '../link/link.ts';
import { Attributes, bpf, Errno, kernelRelease } from '../sys/bpf.ts';
import { COMMAND, LINK_FLAG, MAP_FLAG, TEST_FLAG } from '../uapi/commands.ts';
import {
  ATTACH_TYPE,
  MAP_TYPE,
  MAP_TYPE_SINCE,
  type MapType,
  PROGRAM_TYPE,
  PROGRAM_TYPE_SINCE,
  type ProgramType,
} from '../uapi/kinds.ts';
import { cached, constantProgram, haveMapType, haveProgramType, loadProbe, tryMap, tryProgram } from './raw.ts';

interface Feature {
  readonly since: string;
  readonly what: string;
  probe(): boolean;
}

/** True when a socket filter of these instructions loads. */
function loads(write: (code: Assembler) => void): boolean {
  const code = new Assembler('probe', { recordSites: false });
  write(code);
  const result = tryProgram(PROGRAM_TYPE.socket_filter, code);
  return result >= 0 || result === -Errno.EPERM;
}

/** A command on a descriptor that is none: EBADF from a kernel that knows the command, EINVAL from one that does not. */
function knowsCommand(command: number, fill: (attributes: Attributes) => void): boolean {
  const attributes = new Attributes(80);
  fill(attributes);
  const result = bpf(command, attributes, 80);
  return result === -Errno.EBADF || result === -Errno.EPERM || result === -Errno.ENOENT;
}

function backwards(code: Assembler): Label {
  code.mov(R0, 0);
  const again = code.label('again');
  code.place(again);
  return again;
}

/** Everything there is a probe for. */
const features = {
  mappableArrays: {
    since: '5.5',
    what: 'arrays that can be mapped',
    probe: () => tryMap(MAP_TYPE.array, 4, 8, 1, MAP_FLAG.MMAPABLE) >= 0,
  },
  batchOperations: {
    since: '5.6',
    what: 'batch operations on maps',
    probe: () => knowsCommand(COMMAND.MAP_UPDATE_BATCH, (attributes) => attributes.i32.fill(-1, 9, 10)),
  },
  frozenMaps: {
    since: '5.2',
    what: 'freezing maps',
    probe: () => knowsCommand(COMMAND.MAP_FREEZE, (attributes) => attributes.i32.fill(-1, 0, 1)),
  },
  boundedLoops: {
    since: '5.3',
    what: 'loops in programs',
    probe: () =>
      loads((code) => {
        const again = backwards(code);
        code.add(R0, 1);
        code.jumpIf(R0, '<', 4, again);
        code.exit();
      }),
  },
  fetchingAtomics: {
    since: '5.12',
    what: 'atomic operations that fetch',
    probe: () =>
      loads((code) => {
        code.mov(R1, 1);
        code.store('u64', at(R10, -8), 0);
        code.atomic('fetch_add', 'u64', at(R10, -8), R1);
        code.mov(R0, 0);
        code.exit();
      }),
  },
  instructionSetV4: {
    since: '6.6',
    what: 'the instructions of version 4 (signed division, sign extension, bswap, gotol)',
    probe: () =>
      loads((code) => {
        code.mov(R0, -8);
        code.divSigned(R0, 2);
        code.exit();
      }),
  },
  mayGoto: {
    since: '6.9',
    what: 'may_goto',
    probe: () =>
      loads((code) => {
        const again = backwards(code);
        const end = code.label('end');
        code.mayGoto(end);
        code.jump(again);
        code.place(end);
        code.exit();
      }),
  },
  acquireRelease: {
    since: '6.15',
    what: 'load-acquire and store-release',
    probe: () =>
      loads((code) => {
        code.store('u64', at(R10, -8), 0);
        code.mov(R2, R10);
        code.loadAcquire(R0, 'u64', at(R2, -8));
        code.exit();
      }),
  },
  links: {
    since: '5.7',
    what: 'links',
    probe: () => knowsCommand(COMMAND.LINK_CREATE, (attributes) => attributes.i32.fill(-1, 0, 1)),
  },
  xdpLinks: {
    since: '5.9',
    what: 'XDP links',
    // An XDP link to nowhere gets the same answer from all kernels; sk_lookup programs came with the same one.
    probe: () => haveProgramType('sk_lookup'),
  },
  tcxLinks: {
    since: '6.6',
    what: 'TCX links',
    probe: attachesNowhere,
  },
  liveFrames: {
    since: '5.18',
    what: 'live frames in test runs',
    probe: () =>
      // The flag is looked at before the descriptor is.
      knowsCommand(COMMAND.PROG_TEST_RUN, (attributes) => {
        attributes.i32[0] = -1;
        attributes.u32[16] = TEST_FLAG.XDP_LIVE_FRAMES;
        attributes.u32[18] = 1;
      }),
  },
} as const satisfies Readonly<Record<string, Feature>>;

/** A feature's name. */
export type FeatureName = keyof typeof features;

/** A TCX link to an interface that does not exist: ENODEV where TCX is known. */
function attachesNowhere(): boolean {
  const programFd = loadProbe(PROGRAM_TYPE.sched_cls, constantProgram(0));
  if (programFd < 0) return programFd === -Errno.EPERM;
  try {
    const attachType = ATTACH_TYPE.tcx_ingress;
    const flags = LINK_FLAG.AFTER;
    return (
      createLink({ programFd, ifindex: 0x7fffffff, attachType, flags, relative: 0, expectedRevision: 0 }) ===
      -Errno.ENODEV
    );
  } finally {
    closeDescriptor(programFd);
  }
}

/** Does the kernel have a feature? @throws UnsupportedError where there is no bpf(2) at all */
export function haveFeature(name: FeatureName): boolean {
  return cached(`feature ${name}`, features[name].probe);
}

/** @throws UnsupportedError, naming the Linux that the feature came with, when the kernel does not have it */
export function requireFeature(name: FeatureName): void {
  const { what, since } = features[name];
  if (!haveFeature(name)) throw new UnsupportedError(what, since, kernelRelease());
}

/** @throws UnsupportedError when the kernel does not have the program type */
export function requireProgramType(type: ProgramType): void {
  if (!haveProgramType(type)) {
    throw new UnsupportedError(`program type ${type}`, PROGRAM_TYPE_SINCE[type], kernelRelease());
  }
}

/** @throws UnsupportedError when the kernel does not have the map type */
export function requireMapType(type: MapType): void {
  if (!haveMapType(type)) throw new UnsupportedError(`map type ${type}`, MAP_TYPE_SINCE[type], kernelRelease());
}

/** One line of {@link featureReport}. */
export interface FeatureLine {
  readonly kind: 'feature' | 'program type' | 'map type';
  readonly name: string;
  readonly available: boolean;
  /** The Linux it came with; undefined for what all have. */
  readonly since: string | undefined;
}

/** Ask for everything there is a probe for. Takes some hundred system calls the first time. */
export function featureReport(): FeatureLine[] {
  const lines: FeatureLine[] = [];
  for (const name of Object.keys(features) as FeatureName[]) {
    lines.push({ kind: 'feature', name, available: haveFeature(name), since: features[name].since });
  }
  for (const name of Object.keys(PROGRAM_TYPE) as ProgramType[]) {
    lines.push({ kind: 'program type', name, available: haveProgramType(name), since: PROGRAM_TYPE_SINCE[name] });
  }
  for (const name of Object.keys(MAP_TYPE) as MapType[]) {
    lines.push({ kind: 'map type', name, available: haveMapType(name), since: MAP_TYPE_SINCE[name] });
  }
  return lines;
}
