/**
 * Action lists as text in Open vSwitch's syntax: `set(ipv4(ttl=63)),push_vlan(vid=5,pcp=0),2`, both ways; what ovs-dpctl takes besides
 * what it writes is read, too. What each action looks like is in its folder of actions/.
 */
import { ActionBuilder } from '../actions/builder.ts';
import type { ActionText } from '../actions/description.ts';
import { ACTIONS_MAXIMUM_DEPTH } from '../actions/encoding.ts';
import { ACTIONS, eachAction } from '../actions/table.ts';
import { Scanner } from './scanner.ts';

/** A list as text; 'drop' when it is empty. The list has been validated. */
export function formatActions(words: Int32Array): string {
  return formatList(words, 0, words.length);
}

function formatList(words: Int32Array, from: number, end: number): string {
  if (from === end) return 'drop';
  const parts: string[] = [];
  eachAction(words, from, end, (action, at, _next, lists) => {
    const inside = lists.map((list) => formatList(words, list.from, list.end));
    parts.push(action.text.format(words, at, inside));
  });
  return parts.join(',');
}

/**
 * Read a list; 'drop' or nothing is the empty list. What it builds is well-formed but not yet judged: validateActions says whether a flow
 * may have it.
 * @throws FlowTextError when the text is no list of actions
 */
export function parseActions(text: string): Int32Array {
  const scanner = new Scanner(text);
  const actions = parseList(scanner, 0);
  if (!scanner.atEnd) scanner.fail('an action expected');
  return actions;
}

/** An empty list, where no action named drop begins. */
const EMPTY = /drop(?!\()/y;

/** Actions up to a closing parenthesis, which is left, or to the end. */
function parseList(scanner: Scanner, depth: number): Int32Array {
  if (depth > ACTIONS_MAXIMUM_DEPTH + 1) scanner.fail('lists nested too deep');
  const builder = new ActionBuilder();
  scanner.skipSpace();
  if (scanner.match(EMPTY) !== null || scanner.atEnd || scanner.text[scanner.at] === ')') {
    scanner.skipSpace();
    return builder.finish();
  }
  const inside = () => {
    const actions = parseList(scanner, depth + 1);
    scanner.expect(')');
    return actions;
  };
  do {
    scanner.skipSpace();
    textAhead(scanner).parse(scanner, builder, inside);
    scanner.skipSpace();
  } while (scanner.eat(','));
  return builder.finish();
}

const DIGIT = /[0-9]/;
const BY_NAME: ReadonlyMap<string, ActionText> = new Map(
  Object.values(ACTIONS).map(({ text }): [string, ActionText] => [text.name, text]),
);

/** Of the action that comes next, its name read. */
function textAhead(scanner: Scanner): ActionText {
  const start = scanner.at;
  // An output has no name.
  const isOutput = DIGIT.test(scanner.text[start] ?? '');
  const name = isOutput ? '' : scanner.name();
  const text = name === '' && !isOutput ? undefined : BY_NAME.get(name);
  if (text?.isBare !== true && !scanner.eat('(')) scanner.failAt(start, 'an action expected');
  return text ?? scanner.failAt(start, `unknown action '${name}'`);
}
