/**
 * What sits on an interface, whoever put it there: XDP, the TCX lists, and the filters of clsact.
 * Neighbours: link/xdp.ts, link/tcx.ts and link/clsact.ts name these in their refusals.
 */
import { NativeBlock } from '../../host/sys/index.ts';
import { Clsact, dumpFilters, dumpQdiscs, parseFilter, parseQdisc, splitFilterInfo } from '../../netlink/index.ts';
import { Attributes, bpf, Errno, failure } from '../sys/bpf.ts';
import { netdevIndex, readLink } from '../sys/netdev.ts';
import { ask } from '../sys/netlink.ts';
import { COMMAND } from '../uapi/commands.ts';
import { ATTACH_TYPE } from '../uapi/kinds.ts';
import { linkIds, linkInfoById, programInfoById } from './objects.ts';

/** Where traffic passes a TC program. */
export type Direction = 'ingress' | 'egress';

/** A program that is attached. */
export interface AttachedProgram {
  readonly programId: number;
  /** The name the kernel keeps; empty for one that went away while it was asked. */
  readonly name: string;
  /** The link that holds it there; undefined for a program attached without one. */
  readonly linkId: number | undefined;
}

/** The XDP program of an interface. */
export interface AttachedXdp extends AttachedProgram {
  readonly mode: 'driver' | 'generic' | 'hardware' | 'several';
}

/** The programs of a TCX list in the order in which they run. */
export interface TcxList {
  /** Changes with every change of the list. */
  readonly revision: number;
  readonly programs: readonly AttachedProgram[];
}

/** A program in a filter of clsact. */
export interface AttachedFilter {
  readonly programId: number;
  readonly name: string;
  readonly priority: number;
  readonly handle: number;
}

/** All programs on an interface. */
export interface NetdevPrograms {
  readonly ifindex: number;
  readonly xdp: AttachedXdp | undefined;
  /** Undefined on a kernel without TCX. */
  readonly tcx: { readonly ingress: TcxList; readonly egress: TcxList } | undefined;
  readonly clsact: { readonly ingress: readonly AttachedFilter[]; readonly egress: readonly AttachedFilter[] };
}

const MOST_PROGRAMS = 256;
const QUERY_BYTES = 64;
const doing = 'ask what is attached';

/**
 * Ask what sits on an interface.
 * @param netdev name or index
 * @throws NoInterfaceError, PrivilegeError, SystemError
 */
export function queryNetdev(netdev: string | number): NetdevPrograms {
  const ifindex = netdevIndex(netdev, doing);
  const ingress = queryTcx(ifindex, 'ingress');
  const egress = queryTcx(ifindex, 'egress');
  return {
    ifindex,
    xdp: queryXdp(ifindex),
    tcx: ingress === undefined || egress === undefined ? undefined : { ingress, egress },
    clsact: { ingress: queryClsact(ifindex, 'ingress'), egress: queryClsact(ifindex, 'egress') },
  };
}

const xdpModes = ['none', 'driver', 'generic', 'hardware', 'several'] as const;

/** The XDP program of an interface, or undefined. @throws NoInterfaceError, SystemError */
export function queryXdp(netdev: string | number): AttachedXdp | undefined {
  const link = readLink(netdev, doing);
  const mode = xdpModes[link.xdp?.attached ?? 0];
  const programId = link.xdp?.programId;
  if (mode === undefined || mode === 'none' || programId === undefined) return undefined;
  let linkId: number | undefined;
  for (const id of linkIds()) {
    const info = linkInfoById(id);
    if (info?.type === 'xdp' && info.ifindex === link.index && info.programId === programId) linkId = id;
  }
  return { mode, programId, name: programInfoById(programId)?.name ?? '', linkId };
}

/**
 * A TCX list.
 * @returns undefined on a kernel without TCX
 * @throws NoInterfaceError, PrivilegeError, SystemError
 */
export function queryTcx(netdev: string | number, direction: Direction): TcxList | undefined {
  const programIdsBlock = new NativeBlock(MOST_PROGRAMS * 4);
  const linkIdsBlock = new NativeBlock(MOST_PROGRAMS * 4);
  const attributes = new Attributes(QUERY_BYTES);
  attributes.u32[0] = netdevIndex(netdev, doing);
  attributes.u32[1] = direction === 'ingress' ? ATTACH_TYPE.tcx_ingress : ATTACH_TYPE.tcx_egress;
  attributes.point(16, programIdsBlock);
  attributes.u32[6] = MOST_PROGRAMS;
  attributes.point(40, linkIdsBlock);
  const result = bpf(COMMAND.PROG_QUERY, attributes, QUERY_BYTES);
  if (result === -Errno.EINVAL || result === -Errno.E2BIG) return undefined;
  if (result < 0 && result !== -Errno.ENOENT) throw failure(COMMAND.PROG_QUERY, result, doing, `${netdev}`);
  const programs: AttachedProgram[] = [];
  for (let index = 0; index < Math.min(attributes.u32[6], MOST_PROGRAMS); index++) {
    const programId = programIdsBlock.u32[index];
    const linkId = linkIdsBlock.u32[index];
    programs.push({
      programId,
      name: programInfoById(programId)?.name ?? '',
      linkId: linkId === 0 ? undefined : linkId,
    });
  }
  return { revision: Number(attributes.view.getBigUint64(56, true)), programs };
}

/** The filters of clsact that hold programs. @throws NoInterfaceError, SystemError */
export function queryClsact(netdev: string | number, direction: Direction): AttachedFilter[] {
  const ifindex = netdevIndex(netdev, doing);
  if (!hasClsact(ifindex)) return [];
  const parent = direction === 'ingress' ? Clsact.INGRESS : Clsact.EGRESS;
  const found: AttachedFilter[] = [];
  for (const message of ask(dumpFilters(ifindex, parent))) {
    const { kind, bpf: filter, handle, info } = parseFilter(message);
    if (kind !== 'bpf' || filter === undefined) continue;
    const programId = filter.programId ?? 0;
    const name = programInfoById(programId)?.name ?? '';
    found.push({ programId, name, priority: splitFilterInfo(info).priority, handle });
  }
  return found;
}

/** Has the interface the clsact discipline? @throws SystemError */
export function hasClsact(ifindex: number): boolean {
  return ask(dumpQdiscs({ index: ifindex }))
    .map(parseQdisc)
    .some((qdisc) => qdisc.index === ifindex && qdisc.kind === 'clsact');
}
