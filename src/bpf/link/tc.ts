/** TC programs wherever the kernel lets them be: a TCX link, or before Linux 6.6 a clsact filter. */
import { UnsupportedError } from '../errors.ts';
import { attachClsact, type ClsactFilter } from './clsact.ts';
import type { Link } from './link.ts';
import { attachTcx, type TcxAttachment } from './tcx.ts';

/** A TC program that is attached, in whichever way. */
export type TcAttachment =
  | { readonly kind: 'tcx'; readonly link: Link }
  | { readonly kind: 'clsact'; readonly filter: ClsactFilter };

/**
 * Attach a TC program by TCX, or by clsact where the kernel has no TCX. The position in a clsact list is 'last' whatever was asked for.
 * @throws as attachTcx and attachClsact
 */
export function attachTc(attachment: TcxAttachment): TcAttachment {
  try {
    return { kind: 'tcx', link: attachTcx(attachment) };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return { kind: 'clsact', filter: attachClsact(attachment) };
  }
}
