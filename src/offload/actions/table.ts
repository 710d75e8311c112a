/**
 * What becomes of each action in eBPF: a function that adds its steps to the list that is being compiled, or refuses it. An action that lacks
 * an entry does not compile.
 */
import { Action, type ActionName, actionName, type ListBounds } from '../../flow/index.ts';
import { compileCheckLength } from './check-length.ts';
import { compileClone, compileSample } from './clone.ts';
import type { ListCompiler } from './compile.ts';
import { compileCt, compileCtClear } from './ct.ts';
import { compileDecTtl } from './dec-ttl.ts';
import { compileDrop } from './drop.ts';
import { compileHash } from './hash.ts';
import { compileAddMpls, compilePopMpls, compilePushMpls } from './mpls.ts';
import { compileOutput, compileTrunc } from './output.ts';
import { compileRecirc } from './recirc.ts';
import { compileSet } from './set.ts';
import { compilePopVlan, compilePushVlan } from './vlan.ts';

/**
 * @param isLast nothing runs behind the action
 * @param lists the lists inside
 * @returns false when eBPF cannot do it; the reason is noted
 */
type CompileAction = (
  list: ListCompiler,
  words: Int32Array,
  at: number,
  isLast: boolean,
  lists: readonly ListBounds[],
) => boolean;

/** eBPF does not carry it. */
const REFUSED = null;

const COMPILERS: { readonly [Name in ActionName]: CompileAction | null } = {
  OUTPUT: compileOutput,
  USERSPACE: REFUSED,
  SET: compileSet,
  PUSH_VLAN: compilePushVlan,
  POP_VLAN: compilePopVlan,
  SAMPLE: compileSample,
  RECIRC: compileRecirc,
  HASH: compileHash,
  PUSH_MPLS: compilePushMpls,
  POP_MPLS: compilePopMpls,
  SET_MASKED: compileSet,
  CT: compileCt,
  TRUNC: compileTrunc,
  PUSH_ETH: REFUSED,
  POP_ETH: REFUSED,
  CT_CLEAR: compileCtClear,
  PUSH_NSH: REFUSED,
  POP_NSH: REFUSED,
  METER: REFUSED,
  CLONE: compileClone,
  CHECK_PKT_LEN: compileCheckLength,
  ADD_MPLS: compileAddMpls,
  DEC_TTL: compileDecTtl,
  DROP: compileDrop,
};

const BY_TYPE: CompileAction[] = [];
for (const [name, compile] of Object.entries(COMPILERS)) {
  const type = Action[name as ActionName];
  BY_TYPE[type] = compile ?? ((list) => list.refuse(`action ${actionName(type)}`));
}

/** What compiles an action of a type. */
export function compilerOf(type: number): CompileAction {
  return BY_TYPE[type];
}
