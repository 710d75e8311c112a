/** Family ovs_ct_limit: how many connections a zone may hold. As in the kernel, limits are for all datapaths. */
import type { MessageWriter } from '../../../netlink/index.ts';
import { CtLimitCommand, Family } from '../abi.ts';
import { u32At } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';
import { trackerOf } from './known-connections.ts';
import { type FamilyRequest, unsupported } from './request.ts';

export const CT_LIMIT_ATTRIBUTES = 1;
/** OVS_CT_LIMIT_ATTR_ZONE_LIMIT, an array of struct ovs_zone_limit: zone s32, limit u32, count u32. */
const ZONE_LIMIT = 1;
const ENTRY_BYTES = 12;
/** The zone number of the limit for all zones that have none of their own, unsigned. */
const DEFAULT_ZONE = 0xffff_ffff;
const ZONE_MAXIMUM = 0xffff;

/** @throws OvsError */
export function handleCtLimit(request: FamilyRequest): void {
  const isToKeep = request.command === CtLimitCommand.SET;
  const { limits } = trackerOf(request.state.connections, isToKeep && request.attributes.has(ZONE_LIMIT));
  const content = request.attributes.content(ZONE_LIMIT);
  switch (request.command) {
    case CtLimitCommand.SET:
      eachZone(content, (zone, limit) => {
        if (zone === DEFAULT_ZONE) limits.default = limit;
        else if (zone <= ZONE_MAXIMUM) limits.set(zone, limit);
      });
      answer(request, () => {});
      break;
    case CtLimitCommand.DEL:
      eachZone(content, (zone) => {
        if (zone === DEFAULT_ZONE) limits.default = 0;
        else limits.remove(zone);
      });
      answer(request, () => {});
      break;
    case CtLimitCommand.GET: {
      const entries: number[] = [];
      if (content === null) {
        entries.push(DEFAULT_ZONE, limits.default, 0);
        for (const zone of limits.zones()) entries.push(zone, limits.of(zone), limits.count(zone));
      } else {
        eachZone(content, (zone) => {
          if (zone === DEFAULT_ZONE) entries.push(zone, limits.default, 0);
          else if (zone <= ZONE_MAXIMUM) entries.push(zone, limits.of(zone), limits.count(zone));
        });
      }
      answer(request, (writer) => writer.bytes(ZONE_LIMIT, new Uint8Array(Uint32Array.from(entries).buffer)));
      break;
    }
    default:
      unsupported(request);
  }
}

/** Zones that do not exist are passed over, and so are bytes that are no whole entry. @throws OvsError EINVAL */
function eachZone(content: Uint8Array | null, visit: (zone: number, limit: number) => void): void {
  if (content === null) throw new OvsError(Errno.EINVAL, 'the zones are missing');
  for (let at = 0; at + ENTRY_BYTES <= content.length; at += ENTRY_BYTES) {
    visit(u32At(content, at), u32At(content, at + 4));
  }
}

function answer(request: FamilyRequest, write: (writer: MessageWriter) => void): void {
  const { command, interfaceIndex } = request;
  request.reply.object({ family: Family.CT_LIMIT, command, version: 1, interfaceIndex }, write);
}
