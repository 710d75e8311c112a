/** What an extension may do to which OID besides forwarding it. All checks throw RuleError and change nothing. */
import { RuleError } from '../errors.ts';
import type { Slot } from '../stack/slot.ts';
import type { OidKind, OidRequest, QueryKind, Status } from './oid.ts';

/** OIDs that tell what has happened: an extension passes them on whatever it thinks of them. */
const NEVER_COMPLETED: ReadonlySet<OidKind> = new Set<OidKind>([
  'PORT_UPDATED',
  'PORT_TEARDOWN',
  'PORT_DELETE',
  'NIC_CONNECT',
  'NIC_UPDATED',
  'NIC_DISCONNECT',
  'NIC_DELETE',
  'NIC_SAVE_COMPLETE',
  'NIC_RESTORE_COMPLETE',
]);

const QUERIES: ReadonlySet<string> = new Set<QueryKind>([
  'SWITCH_PARAMETERS',
  'PORT_ARRAY',
  'NIC_ARRAY',
  'PROPERTY_ENUM',
  'PORT_PROPERTY_ENUM',
  'FEATURE_STATUS_QUERY',
  'PORT_FEATURE_STATUS_QUERY',
]);

/** Whether an OID only asks: what an extension may originate (rule 33). */
export function isQuery(kind: string): boolean {
  return QUERIES.has(kind);
}

/**
 * Whether an extension may end an OID with a status.
 * @throws RuleError with the rule that says no
 */
export function checkCompletion(slot: Slot, request: OidRequest, status: Status): void {
  const oid = request.oid;
  const what = `${slot.name} completes ${oid.kind} with ${status}`;
  if (NEVER_COMPLETED.has(oid.kind)) throw new RuleError(32, what);
  switch (oid.kind) {
    case 'PORT_CREATE':
      checkVeto(slot, status, what);
      return;
    case 'NIC_CREATE':
      if (oid.nic.nicIndex !== 0) throw new RuleError(31, what);
      checkVeto(slot, status, what);
      return;
    case 'PORT_PROPERTY_ADD':
    case 'PORT_PROPERTY_UPDATE':
    case 'PORT_PROPERTY_DELETE':
    case 'PROPERTY_ADD':
    case 'PROPERTY_UPDATE':
    case 'PROPERTY_DELETE':
      if (status === 'SUCCESS') {
        if (oid.property.type !== 'custom' || !slot.forwarding) throw new RuleError(36, what);
        return;
      }
      if (oid.kind === 'PORT_PROPERTY_DELETE' || oid.kind === 'PROPERTY_DELETE') throw new RuleError(31, what);
      checkVeto(slot, status, what);
      return;
    case 'SWITCH_PARAMETERS':
    case 'PORT_ARRAY':
    case 'NIC_ARRAY':
    case 'PROPERTY_ENUM':
    case 'PORT_PROPERTY_ENUM':
      throw new RuleError(34, what);
    case 'FEATURE_STATUS_QUERY':
    case 'PORT_FEATURE_STATUS_QUERY':
      return;
    case 'NIC_REQUEST':
      if (slot.capturing) throw new RuleError(4, what);
      return;
    case 'NIC_SAVE':
      checkSave(slot, request, status, what);
      return;
    case 'NIC_RESTORE':
      if (oid.saved.extensionId !== slot.name) throw new RuleError(41, what);
      return;
    default:
      return;
  }
}

function checkVeto(slot: Slot, status: Status, what: string): void {
  if (status === 'SUCCESS') throw new RuleError(31, what);
  if (slot.capturing) throw new RuleError(4, what);
}

function checkSave(slot: Slot, request: OidRequest, status: Status, what: string): void {
  if (status === 'BUFFER_TOO_SHORT') {
    if (request.bytesNeeded > request.capacityBytes) return;
    throw new RuleError(40, `${what} without saying how much it needs`);
  }
  if (status !== 'SUCCESS') return;
  if (request.extensionId !== slot.name) throw new RuleError(40, `${what} without its own id`);
  const data = request.saveData;
  if (data === null || data.length === 0) throw new RuleError(40, `${what} without data`);
  if (data.length > request.capacityBytes) throw new RuleError(40, `${what} with more data than there is room for`);
}

/**
 * Whether a pended disconnect may be forwarded.
 * @throws RuleError 29 when references taken since it was pended are still held
 */
export function checkForward(slot: Slot, references: number, before: number): void {
  if (references > before) {
    throw new RuleError(29, `${slot.name} forwards NIC_DISCONNECT while it references the port`);
  }
}
