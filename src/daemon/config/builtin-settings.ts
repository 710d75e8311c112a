/** What is wrong with the settings of an extension that comes with Millrace: its own check, without a switch. parse.ts asks, so that a file is checked before anything runs. */
import { filterExtension } from '../../extensions/filter/index.ts';
import { learningExtension } from '../../extensions/learning/index.ts';
import { ovsExtension } from '../../extensions/ovs/index.ts';
import { type Flaw, FlawsError } from '../../switch/index.ts';
import { messageOf } from '../rpc/failure.ts';

/** `capture` takes no settings. */
const CHECKED = [filterExtension, learningExtension, ovsExtension];

/** @param name of a built-in extension @returns all that is wrong, with paths from the settings on */
export function flawsOfSettings(name: string, settings: Readonly<Record<string, unknown>>): readonly Flaw[] {
  const factory = CHECKED.find(({ descriptor }) => descriptor.name === name);
  try {
    factory?.parseConfiguration?.(settings);
    return [];
  } catch (error) {
    return error instanceof FlawsError ? error.flaws : [{ path: [], message: messageOf(error) }];
  }
}
