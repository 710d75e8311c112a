/**
 * The extensions that come with Millrace: their names, what each of them is to the daemon, and the types of what they can be asked. All else in the daemon and in
 * the command line goes by this; thread/running-switch.ts has their code.
 */
import type { CAPTURE_COMMANDS, CaptureStatus } from '../extensions/capture/index.ts';
import type { FILTER_COMMANDS, FilterStatus } from '../extensions/filter/index.ts';
import type { LEARNING_COMMANDS, LearningStatus } from '../extensions/learning/index.ts';
import type { OVS_COMMANDS, OvsStatus } from '../extensions/ovs/index.ts';
import type { CallsOf, JsonValue } from '../switch/index.ts';

/** The configuration names them without a module. */
export const BUILTIN_EXTENSIONS: readonly string[] = ['learning', 'capture', 'filter', 'ovs'];

/** What stands in the stack when nothing is said. */
export const DEFAULT_STACK: readonly string[] = ['learning'];
/** Has the forwarding database: `fdb` of the configuration, `learning` of a port, `millrace fdb`. */
export const ADDRESS_KEEPER = 'learning';
/** Has capture sessions. The daemon puts one into the stack for as long as somebody captures. */
export const CAPTURER = 'capture';
/** Adds and uses ports for Open vSwitch. */
export const OPEN_VSWITCH = 'ovs';

/** What they can be asked by `extension.command`: arguments and result of each command. */
export interface BuiltinCalls {
  learning: CallsOf<typeof LEARNING_COMMANDS>;
  capture: CallsOf<typeof CAPTURE_COMMANDS>;
  filter: CallsOf<typeof FILTER_COMMANDS>;
  ovs: CallsOf<typeof OVS_COMMANDS>;
}

/** What they say of themselves. */
export interface BuiltinStatus {
  learning: LearningStatus;
  capture: CaptureStatus;
  filter: FilterStatus;
  ovs: OvsStatus;
}

/** One that can be asked. */
export type Asked = keyof BuiltinCalls;
export type CommandOf<Name extends Asked> = keyof BuiltinCalls[Name] & string;
export type ArgumentsOf<Name extends Asked, Command extends CommandOf<Name>> = BuiltinCalls[Name][Command] extends {
  args: infer Args;
}
  ? Args
  : JsonValue;
export type ResultOf<Name extends Asked, Command extends CommandOf<Name>> = BuiltinCalls[Name][Command] extends {
  result: infer Result;
}
  ? Result
  : JsonValue;
