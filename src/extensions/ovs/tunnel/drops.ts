/** Why a tunnel's packet goes nowhere, as a reason of flow/'s Drop: from what tunnels/ says of its headers, and from what the host's tables say of its path. */
import { Drop } from '../../../flow/index.ts';
import { PathState } from '../../../net/index.ts';
import { TunnelResult } from '../../../tunnels/index.ts';

type Result = Exclude<
  keyof typeof TunnelResult,
  'DONE' | 'NOT_TUNNELLED' | 'FRAGMENT' | 'SEGMENT_FIRST' | 'WAITING' | 'TO_FRAGMENT'
>;

const BY_RESULT: Readonly<Record<Result, number>> = {
  TOO_BIG: Drop.TUNNEL_TOO_BIG,
  BAD_LENGTH: Drop.TUNNEL_BAD_LENGTH,
  BAD_CHECKSUM: Drop.TUNNEL_BAD_CHECKSUM,
  BAD_FLAGS: Drop.TUNNEL_BAD_FLAGS,
  MALFORMED_OPTION: Drop.TUNNEL_MALFORMED_OPTION,
  UNKNOWN_CRITICAL_OPTION: Drop.TUNNEL_UNKNOWN_CRITICAL_OPTION,
  UNKNOWN_PROTOCOL: Drop.TUNNEL_UNKNOWN_PROTOCOL,
  CONGESTION: Drop.TUNNEL_CONGESTION,
  BAD_SOURCE: Drop.TUNNEL_BAD_SOURCE,
  BAD_OFFLOAD: Drop.OFFLOAD_UNFINISHED,
  NO_HEADROOM: Drop.NO_BUFFER,
  BAD_KEY: Drop.TUNNEL_BAD_KEY,
  NO_BUFFER: Drop.NO_BUFFER,
  DUPLICATE_SEGMENT: Drop.TUNNEL_BAD_SEGMENT,
  OVERLAPPING_SEGMENT: Drop.TUNNEL_BAD_SEGMENT,
  BAD_SEGMENT: Drop.TUNNEL_BAD_SEGMENT,
  TOO_MANY_SEGMENTS: Drop.TUNNEL_BAD_SEGMENT,
};

type Trouble = Exclude<keyof typeof PathState, 'READY' | 'RESOLVING'>;

const BY_PATH: Readonly<Record<Trouble, number>> = {
  LOCAL: Drop.TUNNEL_TO_ITSELF,
  NO_ROUTE: Drop.TUNNEL_NO_ROUTE,
  BLACKHOLE: Drop.TUNNEL_NO_ROUTE,
  UNREACHABLE: Drop.TUNNEL_NO_ROUTE,
  PROHIBITED: Drop.TUNNEL_NO_ROUTE,
  NO_SOURCE: Drop.TUNNEL_NO_SOURCE,
  LINK_DOWN: Drop.TUNNEL_LINK_DOWN,
  NO_NEIGHBOUR: Drop.TUNNEL_NO_NEIGHBOUR,
  NO_ROOM: Drop.TUNNEL_NO_ROOM,
};

/** By number what the tables have by name. */
function byNumber(numbers: Readonly<Record<string, number>>, drops: Readonly<Record<string, number>>): number[] {
  const found: number[] = [];
  for (const [name, number] of Object.entries(numbers)) found[number] = drops[name] ?? 0;
  return found;
}

const RESULTS = byNumber(TunnelResult, BY_RESULT);
const PATHS = byNumber(PathState, BY_PATH);

/** @param result of TunnelResult @returns a reason of Drop; 0 for a result that is no discard */
export function dropOfResult(result: number): number {
  return RESULTS[result] ?? 0;
}

/** @param state of PathState @returns a reason of Drop; 0 for a path that packets may take or wait for */
export function dropOfPath(state: number): number {
  return PATHS[state] ?? 0;
}
