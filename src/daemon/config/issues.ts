/**
 * What is wrong with a configuration, in sentences with file, line and column. parse.ts gathers them; here zod's findings are
 * put into words and placed in the file.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, type LineCounter, type Node } from 'yaml';
import type { z } from 'zod';
import { nearest } from './suggest.ts';

/** One thing wrong with a configuration. Lines and columns count from 1. */
export interface ConfigIssue {
  file: string;
  line: number;
  column: number;
  /** Where in the configuration: "ports.web.vlan.id"; empty for the whole. */
  path: string;
  message: string;
}

/** So many issues of one configuration are told, and have a place. */
export const MOST_ISSUES = 100;

/** `file:line:column: path: message`, as compilers write it. */
export function formatIssue(issue: ConfigIssue): string {
  const path = issue.path === '' ? '' : `${issue.path}: `;
  return `${issue.file}:${issue.line}:${issue.column}: ${path}${issue.message}`;
}

/** Write a path as users do: ports.web.acl[2].action. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else text += text === '' ? String(step) : `.${String(step)}`;
  }
  return text;
}

/** Short form of a value from the file, for "found ...". */
function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  const text = JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 37)}...` : text;
}

function valueAt(data: unknown, path: readonly PropertyKey[]): unknown {
  let value = data;
  for (const step of path) {
    if (value === null || typeof value !== 'object') return undefined;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value;
}

/** The keys that the schema allows at a place: asked of the schema itself, so that suggestions cannot go stale. */
export function allowedKeys(schema: z.core.$ZodType, path: readonly PropertyKey[], data: unknown): string[] {
  const def = schema._zod.def as z.core.$ZodTypeDef & Record<string, unknown>;
  switch (def.type) {
    case 'optional':
    case 'default':
    case 'nullable':
      return allowedKeys(def.innerType as z.core.$ZodType, path, data);
    case 'pipe':
      return allowedKeys(def.in as z.core.$ZodType, path, data);
    case 'object': {
      const shape = def.shape as Record<string, z.core.$ZodType>;
      if (path.length === 0) return Object.keys(shape);
      const inner = shape[String(path[0])];
      return inner === undefined ? [] : allowedKeys(inner, path.slice(1), valueAt(data, path.slice(0, 1)));
    }
    case 'record':
      if (path.length === 0) return [];
      return allowedKeys(def.valueType as z.core.$ZodType, path.slice(1), valueAt(data, path.slice(0, 1)));
    case 'array':
      if (path.length === 0) return [];
      return allowedKeys(def.element as z.core.$ZodType, path.slice(1), valueAt(data, path.slice(0, 1)));
    case 'union': {
      const options = def.options as z.core.$ZodType[];
      const discriminator = def.discriminator as string | undefined;
      if (discriminator === undefined)
        return [...new Set(options.flatMap((option) => allowedKeys(option, path, data)))];
      const chosen = valueAt(data, [discriminator]);
      const option = options.find((candidate) => candidate._zod.propValues?.[discriminator]?.has(chosen as string));
      return option === undefined ? [] : allowedKeys(option, path, data);
    }
    default:
      return [];
  }
}

/** Places findings in a YAML document. */
export class Locator implements Places<ConfigIssue> {
  readonly #file: string;
  readonly #document: Document;
  readonly #lines: LineCounter;
  /** Places that were looked for: each look goes through the mappings on its way. */
  #looks = 0;

  constructor(file: string, document: Document, lines: LineCounter) {
    this.#file = file;
    this.#document = document;
    this.#lines = lines;
  }

  /** An issue at a byte offset of the file. */
  at(offset: number, path: readonly PropertyKey[], message: string): ConfigIssue {
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.#file, line: Math.max(1, line), column: Math.max(1, col), path: formatPath(path), message };
  }

  /**
   * An issue at a path: at its value; at the key when `atKey`; at the innermost mapping that exists when the path does not.
   */
  atPath(path: readonly PropertyKey[], message: string, atKey = false): ConfigIssue {
    this.#looks += 1;
    return this.at(this.#looks > MOST_ISSUES ? 0 : this.#offset(path, atKey), path, message);
  }

  #offset(path: readonly PropertyKey[], atKey: boolean): number {
    let node: unknown = this.#document.contents;
    let offset = (node as Node | null)?.range?.[0] ?? 0;
    for (let i = 0; i < path.length; i += 1) {
      if (isAlias(node)) node = node.resolve(this.#document);
      const step = path[i];
      let next: unknown = null;
      let key: unknown = null;
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
        if (pair === undefined) return offset;
        key = pair.key;
        next = pair.value;
      } else if (isSeq(node)) {
        next = node.items[Number(step)];
      }
      const last = i === path.length - 1;
      const target = (last && atKey) || next === null || (isScalar(next) && next.source === '') ? (key ?? next) : next;
      const start = (target as Node | null)?.range?.[0];
      if (start === undefined) return offset;
      offset = start;
      node = next;
    }
    return offset;
  }
}

/** Where a finding is to be noted: a place in a file, or just its path. */
export interface Places<Issue> {
  /** @param atKey the finding is about the key, not about its value */
  atPath(path: readonly PropertyKey[], message: string, atKey?: boolean): Issue;
}

/** Places for what came in no file: the path and the sentence. */
export const PATHS_ONLY: Places<string> = {
  atPath: (path, message) => (path.length === 0 ? message : `${formatPath(path)}: ${message}`),
};

/** Put zod's findings into words and places. `data` is what was validated. */
export function describeZod<Issue>(
  error: z.ZodError,
  schema: z.core.$ZodType,
  data: unknown,
  locate: Places<Issue>,
): Issue[] {
  const issues: Issue[] = [];
  const add = (issue: z.core.$ZodIssue, path: PropertyKey[]) => {
    switch (issue.code) {
      case 'unrecognized_keys': {
        const allowed = allowedKeys(schema, path, data);
        for (const key of issue.keys) {
          const near = nearest(key, allowed);
          const help = near === null ? `allowed here: ${allowed.join(', ')}` : `did you mean "${near}"?`;
          issues.push(locate.atPath([...path, key], `unknown key; ${help}`, true));
        }
        return;
      }
      case 'invalid_union': {
        // Of a union without discriminator, the branch that recognised most of the value says what is wrong.
        const value = valueAt(data, path);
        const inner = issue.errors.find((branch) =>
          branch.some((finding) => finding.path.length > 0 || finding.code === 'unrecognized_keys'),
        );
        if (inner !== undefined && typeof value === 'object' && value !== null) {
          for (const finding of inner) add(finding, [...path, ...finding.path]);
          return;
        }
        break;
      }
      case 'invalid_key': {
        issues.push(locate.atPath(path, issue.issues[0]?.message ?? issue.message, true));
        return;
      }
      default:
    }
    const value = valueAt(data, path);
    const parent = path.length > 0 ? valueAt(data, path.slice(0, -1)) : null;
    const missing = value === undefined && typeof parent === 'object' && parent !== null && !Array.isArray(parent);
    const custom = issue.code === 'custom';
    const found = missing ? '; it is not given' : custom && typeof value === 'object' ? '' : `, found ${show(value)}`;
    issues.push(locate.atPath(path, `${issue.message}${found}`));
  };
  for (const issue of error.issues) add(issue, [...issue.path]);
  return issues;
}
