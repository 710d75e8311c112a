/** The helpers that there are: the name by which actions mean one, its number in a record, and the protocol whose packets it reads. Whoever asks for a helper asks this table. */
import { IpProtocol } from '../../net/index.ts';
import { Settings } from '../layout.ts';

/** Numbers of helpers in a record. */
export const Helper = { NONE: 0, FTP: 1, TFTP: 2 } as const;

const HELPERS = [
  { name: 'ftp', number: Helper.FTP, protocol: IpProtocol.TCP },
  { name: 'tftp', number: Helper.TFTP, protocol: IpProtocol.UDP },
] as const;

export type HelperName = (typeof HELPERS)[number]['name'];

/** One of the helpers. */
export interface KnownHelper {
  readonly name: HelperName;
  readonly number: number;
  readonly protocol: number;
}

const BY_NUMBER: readonly (KnownHelper | undefined)[] = [undefined, ...HELPERS];

/** The helper of a name; undefined when there is none. */
export function helperNamed(name: string): KnownHelper | undefined {
  return HELPERS.find((helper) => helper.name === name);
}

/** The number of the helper of a record. @param settings its settings word */
export function helperNumber(settings: number): number {
  return (settings >>> Settings.HELPER_SHIFT) & Settings.HELPER;
}

/** The name of the helper of a record; undefined when it has none. @param settings its settings word */
export function helperName(settings: number): HelperName | undefined {
  return BY_NUMBER[helperNumber(settings)]?.name;
}

/** Whether a helper, by its number, reads packets of a protocol. */
export function helperReads(number: number, protocol: number): boolean {
  return BY_NUMBER[number]?.protocol === protocol;
}
