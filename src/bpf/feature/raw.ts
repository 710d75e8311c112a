/**
 * The bare probes: make the smallest thing of a kind, and see whether the kernel knows the kind. They stand on bpf(2) alone, so
 * that loader and maps may ask them why something was refused. Neighbour: feature/probe.ts is the face for users.
 */
import { closeDescriptor, NativeBlock, SystemError } from '../../host/sys/index.ts';
import { Assembler } from '../asm/assembler.ts';
import { encode } from '../asm/encode.ts';
import { R0 } from '../asm/operands.ts';
import { Attributes, blockOf, blockOfString, bpf, Errno, takeShortage } from '../sys/bpf.ts';
import { COMMAND, LOAD_FLAG, MAP_FLAG } from '../uapi/commands.ts';
import type { HelperName } from '../uapi/helpers.ts';
import { ATTACH_TYPE, MAP_TYPE, type MapType, PROGRAM_TYPE, type ProgramType } from '../uapi/kinds.ts';

const LOG_BYTES = 1 << 16;
const known = new Map<string, boolean>();

/**
 * Ask once, and keep the answer for the life of the process.
 * @throws SystemError when nobody can tell, as the process lacks descriptors or memory
 */
export function cached(key: string, ask: () => boolean): boolean {
  let answer = known.get(key);
  if (answer === undefined) {
    takeShortage();
    answer = ask();
    const errno = takeShortage();
    if (errno !== 0) throw new SystemError('bpf', errno, `ask the kernel for ${key}`);
    known.set(key, answer);
  }
  return answer;
}

/**
 * Try to load a program.
 * @param log where the verifier shall write
 * @returns a descriptor that the caller closes, or the negated errno
 */
export function loadProbe(type: number, code: Assembler, expectedAttachType = 0, log?: NativeBlock): number {
  const bytes = encode(code.instructions);
  const attributes = new Attributes(72);
  attributes.u32[0] = type;
  attributes.u32[1] = bytes.length / 8;
  attributes.point(8, blockOf(bytes));
  attributes.point(16, blockOfString('GPL'));
  // Programs of the type 'syscall' are all sleepable.
  if (type === PROGRAM_TYPE.syscall) attributes.u32[11] = LOAD_FLAG.SLEEPABLE;
  attributes.u32[17] = expectedAttachType;
  if (log !== undefined) {
    attributes.u32[6] = 1;
    attributes.u32[7] = log.bytes.length;
    attributes.point(32, log);
  }
  return bpf(COMMAND.PROG_LOAD, attributes, 72);
}

/**
 * Try to load a program, and let it go.
 * @returns 0, or the negated errno
 */
export function tryProgram(type: number, code: Assembler, expectedAttachType = 0, log?: NativeBlock): number {
  const result = loadProbe(type, code, expectedAttachType, log);
  if (result < 0) return result;
  closeDescriptor(result);
  return 0;
}

/** A program that returns a constant. */
export function constantProgram(value: number): Assembler {
  const code = new Assembler('probe', { recordSites: false });
  code.mov(R0, value);
  code.exit();
  return code;
}

/**
 * Does the kernel know a program type? Types that need more than an instruction to load (tracing, ext, lsm, struct_ops) are
 * known by the refusal they get.
 */
export function haveProgramType(type: ProgramType): boolean {
  return cached(`program ${type}`, () => {
    const expected = expectedFor(type);
    const result = tryProgram(
      PROGRAM_TYPE[type],
      constantProgram(type === 'sk_lookup' || type === 'netfilter' ? 1 : 0),
      expected,
    );
    if (result === -Errno.EPERM) return true;
    if (type === 'tracing' || type === 'ext' || type === 'lsm' || type === 'struct_ops') {
      return isKnownBy(PROGRAM_TYPE[type], result);
    }
    return result >= 0 || result === -Errno.EACCES;
  });
}

function expectedFor(type: ProgramType): number {
  switch (type) {
    case 'sk_lookup':
      return ATTACH_TYPE.sk_lookup;
    case 'netfilter':
      return ATTACH_TYPE.netfilter;
    case 'cgroup_sock_addr':
      return 8;
    case 'cgroup_sockopt':
      return 21;
    default:
      return 0;
  }
}

/** An unknown type answers EINVAL before its program is looked at; a known one that lacks its target says something of its own. */
function isKnownBy(type: number, result: number): boolean {
  const absurd = tryProgram(0x7fff, constantProgram(0));
  return result !== absurd || tryProgram(type, constantProgram(0), ATTACH_TYPE.trace_fentry) !== absurd;
}

/**
 * Try to create a map.
 * @returns 0, or the negated errno; nothing stays
 */
export function tryMap(type: number, keyBytes: number, valueBytes: number, maxEntries: number, flags: number): number {
  const attributes = new Attributes(CREATE_BYTES);
  // No descriptor of an inner map: maps of maps say EBADF, others do not look.
  const inner = type === MAP_TYPE.array_of_maps || type === MAP_TYPE.hash_of_maps ? 0xffffffff : 0;
  attributes.u32.set([type, keyBytes, valueBytes, maxEntries, flags, inner]);
  const result = bpf(COMMAND.MAP_CREATE, attributes, CREATE_BYTES);
  if (result < 0) return result;
  closeDescriptor(result);
  return 0;
}

const CREATE_BYTES = 72;

interface SmallestMap {
  readonly key: number;
  readonly value: number;
  readonly entries?: number;
  readonly flags?: number;
}

/** The smallest map of each type whose shape is not four bytes to four bytes. */
const smallest: Partial<Record<MapType, SmallestMap>> = {
  lpm_trie: { key: 8, value: 4, flags: MAP_FLAG.NO_PREALLOC },
  stack_trace: { key: 4, value: 8 },
  queue: { key: 0, value: 4 },
  stack: { key: 0, value: 4 },
  bloom_filter: { key: 0, value: 4 },
  ringbuf: { key: 0, value: 0, entries: 65536 },
  user_ringbuf: { key: 0, value: 0, entries: 65536 },
};

/** Does the kernel know a map type? Maps of maps, made without an inner map, are known by how they are refused. */
export function haveMapType(type: MapType): boolean {
  return cached(`map ${type}`, () => {
    const shape = smallest[type] ?? { key: 4, value: 4 };
    const result = tryMap(MAP_TYPE[type], shape.key, shape.value, shape.entries ?? 1, shape.flags ?? 0);
    if (type === 'array_of_maps' || type === 'hash_of_maps') return result === -Errno.EBADF;
    return result >= 0 || result === -Errno.EPERM;
  });
}

/**
 * May programs of a type call a helper? The verifier's answer is taken: an unknown helper is refused by name, a known one at worst for its
 * arguments.
 */
export function haveHelper(type: ProgramType, helper: HelperName): boolean {
  return cached(`helper ${type} ${helper}`, () => {
    const code = new Assembler('probe', { recordSites: false });
    code.callHelper(helper);
    code.mov(R0, 0);
    code.exit();
    const log = new NativeBlock(LOG_BYTES);
    const result = tryProgram(PROGRAM_TYPE[type], code, expectedFor(type), log);
    if (result >= 0 || result === -Errno.EPERM) return true;
    return !/unknown func|invalid func|cannot use helper|program of this type cannot use/.test(
      log.getString(0, LOG_BYTES),
    );
  });
}
