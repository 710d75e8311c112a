/**
 * The text of an ES module as the body of a function, with every character where it was: what it imports comes in as parameters, what it exports is
 * asked for when it has run. So the engine binds imported names as variables, as it does in modules of its own, and all of it is collected when it is
 * used no more; modules that Node itself has imported, or made with `vm`, never are. The parser is loaded when the first file needs it.
 */
import { createRequire } from 'node:module';
import type * as Acorn from 'acorn';
import { placeAt, SourceError } from './places.ts';

const require = createRequire(import.meta.url);

/** Names that the function has beside those of the module, none longer than what it stands for. */
export const Name = {
  /** The default export, when it has no name. */
  DEFAULT: '$_d',
  /** `import.meta` */
  META: '$_meta',
  /** `import` as a function. */
  IMPORT: '$_imp',
  /** Told after a function has changed what is exported; gives its argument. */
  LIVE: '$_live',
  /** Parameters of the function that gives imported names other values. */
  INDEX: '$_index',
  VALUE: '$_value',
} as const;

/** One name that is imported. */
export interface ImportedName {
  /** In the module that it comes from; `*` is its namespace. */
  readonly name: string;
  /** In the importing one. */
  readonly local: string;
  readonly start: number;
  /** Whether the text has it anywhere else: types that are imported like values are seen nowhere when types are gone. */
  readonly isUsed: boolean;
}

/** One statement that imports, or exports what another module has. */
export interface Import {
  readonly specifier: string;
  /** Where the specifier stands. */
  readonly start: number;
  readonly names: readonly ImportedName[];
  /** Nothing is named: it is run for what it does. */
  readonly isForEffect: boolean;
}

/** What a module gives on from another, under a name of its own; `*` under null is all but the default. */
export interface ReExport {
  readonly specifier: string;
  readonly start: number;
  readonly name: string;
  readonly as: string | null;
}

/** A module, taken apart. */
export interface SourceText {
  /** No import and no export: a module of the older kind, or a script. */
  readonly isCommonJs: boolean;
  /** The body: every statement of the module, without its imports and exports. */
  readonly body: string;
  readonly imports: readonly Import[];
  readonly reExports: readonly ReExport[];
  /** Names of what it exports itself, with the variable that holds it. */
  readonly exports: ReadonlyMap<string, string>;
  /** Functions change what is exported. */
  readonly isLive: boolean;
}

type Node = Acorn.AnyNode;

const EXPORT_DEFAULT = /^export(?:\s|\/\*[\s\S]*?\*\/|\/\/.*)*default/;

/**
 * Take a module apart.
 * @param kind what it is known to be by its file's name; null: what its text says
 * @throws SourceError when it cannot be parsed
 */
export function readSourceText(path: string, text: string, kind: 'module' | 'script' | null): SourceText {
  const inText = Object.values(Name).find((name) => text.includes(name));
  if (inText !== undefined)
    throw new SourceError(`the name ${inText} is kept for Millrace`, placeAt(path, text, text.indexOf(inText)));
  if (kind !== 'script') {
    const program = parse(path, text, 'module', kind === null);
    if (program !== null && (kind === 'module' || isModule(program) || !parsesAsScript(text)))
      return new Reader(path, text, program).read();
  }
  const program = parse(path, text, 'script', false);
  const edits = new Edits(text);
  if (program !== null) new Walk(path, text, edits).into(program);
  return { isCommonJs: true, body: edits.text(), imports: [], reExports: [], exports: new Map(), isLive: false };
}

function parse(path: string, text: string, sourceType: 'module' | 'script', isTrial: boolean): Acorn.Program | null {
  try {
    return (require('acorn') as typeof Acorn).parse(text, {
      ecmaVersion: 'latest',
      sourceType,
      allowHashBang: true,
      allowAwaitOutsideFunction: sourceType === 'module',
      allowReturnOutsideFunction: sourceType === 'script',
    });
  } catch (error) {
    // What is no module may be a script; what is neither is told as a module.
    if (isTrial && parsesAsScript(text)) return null;
    throw syntaxError(path, text, error);
  }
}

function parsesAsScript(text: string): boolean {
  try {
    parse('', text, 'script', false);
    return true;
  } catch {
    return false;
  }
}

function syntaxError(path: string, text: string, error: unknown): Error {
  if (!(error instanceof SyntaxError) || !('pos' in error) || typeof error.pos !== 'number') {
    return new SourceError('it nests too deeply to be compiled', placeAt(path, text, 0));
  }
  const message = text[error.pos] === '@' ? 'decorators are not supported' : error.message.replace(/ \(\d+:\d+\)$/, '');
  return new SourceError(message, placeAt(path, text, error.pos));
}

function isModule(program: Acorn.Program): boolean {
  let found = false;
  visit(program, (node) => {
    if (node.type === 'ImportDeclaration' || node.type.startsWith('Export') || isMeta(node)) found = true;
    return !found;
  });
  return found;
}

function isMeta(node: Node): boolean {
  return node.type === 'MetaProperty' && node.meta.name === 'import';
}

/** Call for a node and all in it, from outside. @param each answers whether to go into a node */
function visit(node: Node, each: (node: Node) => boolean): void {
  const stack: Node[] = [node];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    if (each(next)) stack.push(...childrenOf(next));
  }
}

function childrenOf(node: Node): Node[] {
  return Object.values(node)
    .flatMap((value: unknown) => (Array.isArray(value) ? value : [value]))
    .filter(
      (value): value is Node => typeof value === 'object' && value !== null && 'type' in value && 'start' in value,
    );
}

/** Replacements in a text, each of the length of what it replaces but for a few that are put in. */
class Edits {
  readonly #text: string;
  readonly #edits: { readonly start: number; readonly end: number; readonly by: string }[] = [];

  constructor(text: string) {
    this.#text = text;
  }

  /** Put a shorter text in the place of another, and spaces in the rest; lines stay. */
  replace(start: number, end: number, by: string): void {
    const rest = this.#text.slice(start + by.length, end).replaceAll(/[^\n\r\u2028\u2029]/g, ' ');
    this.#edits.push({ start, end, by: by + rest });
  }

  insert(at: number, text: string): void {
    this.#edits.push({ start: at, end: at, by: text });
  }

  text(): string {
    let text = '';
    let at = 0;
    for (const { start, end, by } of this.#edits.sort((a, b) => a.start - b.start || a.end - b.end)) {
      text += this.#text.slice(at, start) + by;
      at = end;
    }
    return text + this.#text.slice(at);
  }
}

/** Replaces `import()` and `import.meta`, and finds what else is to be known of a tree. */
class Walk {
  readonly #path: string;
  readonly #text: string;
  readonly #edits: Edits;
  /** Every name that is used, whatever it stands for; names of properties are not. */
  readonly names = new Set<string>();
  readonly #keys = new Set<Node>();

  constructor(path: string, text: string, edits: Edits) {
    this.#path = path;
    this.#text = text;
    this.#edits = edits;
  }

  into(program: Acorn.Program): void {
    if (this.#text.startsWith('#!')) this.#edits.replace(0, (/[\n\r]|$/.exec(this.#text) as RegExpExecArray).index, '');
    visit(program, (node) => {
      if (node.type === 'ImportDeclaration') return false;
      this.#noteKey(node);
      if (node.type === 'Identifier' && !this.#keys.has(node)) this.names.add(node.name);
      if (node.type === 'ImportExpression') this.#edits.replace(node.start, node.start + 'import'.length, Name.IMPORT);
      if (isMeta(node)) this.#edits.replace(node.start, node.end, Name.META);
      return true;
    });
    this.#refuseAwait(program);
  }

  #noteKey(node: Node): void {
    if (node.type === 'MemberExpression') {
      if (!node.computed) this.#keys.add(node.property);
    } else if (node.type === 'MethodDefinition' || node.type === 'PropertyDefinition') {
      if (!node.computed) this.#keys.add(node.key);
    } else if (node.type === 'Property' && !node.computed && !node.shorthand) this.#keys.add(node.key);
  }

  /** Nothing is awaited for outside of functions. */
  #refuseAwait(program: Acorn.Program): void {
    visit(program, (node) => {
      const waits = node.type === 'AwaitExpression' || (node.type === 'ForOfStatement' && node.await);
      if (waits) {
        const place = placeAt(this.#path, this.#text, node.start);
        throw new SourceError('nothing may be awaited for at the top of a module', place);
      }
      return !isFunction(node);
    });
  }
}

function isFunction({ type }: Node): boolean {
  return type === 'FunctionDeclaration' || type === 'FunctionExpression' || type === 'ArrowFunctionExpression';
}

/** Reads one ES module. */
class Reader {
  readonly #path: string;
  readonly #text: string;
  readonly #program: Acorn.Program;
  readonly #edits: Edits;
  readonly #imports: Import[] = [];
  readonly #reExports: ReExport[] = [];
  readonly #exports = new Map<string, string>();
  #isLive = false;

  constructor(path: string, text: string, program: Acorn.Program) {
    this.#path = path;
    this.#text = text;
    this.#program = program;
    this.#edits = new Edits(text);
  }

  read(): SourceText {
    const walk = new Walk(this.#path, this.#text, this.#edits);
    walk.into(this.#program);
    for (const node of this.#program.body) this.#readStatement(node, walk.names);
    this.#watchExports();
    return {
      isCommonJs: false,
      body: this.#edits.text(),
      imports: this.#imports,
      reExports: this.#reExports,
      exports: this.#exports,
      isLive: this.#isLive,
    };
  }

  #readStatement(node: Acorn.Program['body'][number], names: ReadonlySet<string>): void {
    switch (node.type) {
      case 'ImportDeclaration':
        this.#readImport(node, names);
        return;
      case 'ExportAllDeclaration':
        this.#edits.replace(node.start, node.end, ';');
        this.#reExports.push({
          ...this.#from(node.source),
          name: '*',
          as: node.exported === null || node.exported === undefined ? null : nameOf(node.exported),
        });
        return;
      case 'ExportDefaultDeclaration':
        this.#readDefault(node);
        return;
      case 'ExportNamedDeclaration':
        this.#readNamed(node);
        return;
      default:
    }
  }

  #from(source: Acorn.Literal): { specifier: string; start: number } {
    const specifier = String(source.value);
    if (!this.#imports.some((one) => one.specifier === specifier)) {
      this.#imports.push({ specifier, start: source.start, names: [], isForEffect: true });
    }
    return { specifier, start: source.start };
  }

  #readImport(node: Acorn.ImportDeclaration, names: ReadonlySet<string>): void {
    this.#edits.replace(node.start, node.end, ';');
    this.#imports.push({
      specifier: String(node.source.value),
      start: node.source.start,
      isForEffect: this.#text.slice(node.start + 'import'.length, node.source.start).trim() === '',
      names: node.specifiers.map((one) => ({
        name:
          one.type === 'ImportDefaultSpecifier'
            ? 'default'
            : one.type === 'ImportSpecifier'
              ? nameOf(one.imported)
              : '*',
        local: one.local.name,
        start: one.start,
        isUsed: names.has(one.local.name),
      })),
    });
  }

  #readDefault(node: Acorn.ExportDefaultDeclaration): void {
    const { declaration } = node;
    const isDeclared = declaration.type === 'FunctionDeclaration' || declaration.type === 'ClassDeclaration';
    if (isDeclared && declaration.id !== null) {
      this.#edits.replace(node.start, declaration.start, ';');
      this.#exports.set('default', declaration.id.name);
      return;
    }
    // Behind the words there may be brackets, which are no part of the tree.
    const words = EXPORT_DEFAULT.exec(this.#text.slice(node.start)) ?? [''];
    this.#edits.replace(node.start, node.start + words[0].length, `;${Name.DEFAULT}=`);
    // Without a name it is an expression now, which ends where the declaration did.
    if (isDeclared) this.#edits.insert(declaration.end, ';');
    this.#exports.set('default', Name.DEFAULT);
  }

  #readNamed(node: Acorn.ExportNamedDeclaration): void {
    const { declaration, source } = node;
    if (declaration !== null && declaration !== undefined) {
      this.#edits.replace(node.start, declaration.start, ';');
      for (const name of declaredBy(declaration)) this.#exports.set(name, name);
      return;
    }
    this.#edits.replace(node.start, node.end, ';');
    for (const { local, exported } of node.specifiers) {
      if (source === null || source === undefined) this.#exports.set(nameOf(exported), nameOf(local));
      else
        this.#reExports.push({ ...this.#from(source), start: local.start, name: nameOf(local), as: nameOf(exported) });
    }
    if (source !== null && source !== undefined) this.#from(source);
  }

  /** Whoever imports a variable sees its new value when a function changes it later. */
  #watchExports(): void {
    const locals = new Set(this.#exports.values());
    const changes = (node: Node) => namesIn(node).some((name) => locals.has(name));
    const within = (node: Node) => {
      if (node.type === 'ForOfStatement' || node.type === 'ForInStatement') {
        if (node.left.type !== 'VariableDeclaration' && changes(node.left)) {
          const place = placeAt(this.#path, this.#text, node.left.start);
          throw new SourceError('what is exported cannot be the variable of a loop in a function', place);
        }
      }
      const isChange =
        (node.type === 'AssignmentExpression' && changes(node.left)) ||
        (node.type === 'UpdateExpression' && changes(node.argument));
      if (isChange) {
        this.#edits.insert(node.start, `${Name.LIVE}(`);
        this.#edits.insert(node.end, ')');
        this.#isLive = true;
      }
      return true;
    };
    visit(this.#program, (node) => {
      if (!isFunction(node)) return true;
      visit(node, within);
      return false;
    });
  }
}

/** All names in a pattern, more than are assigned to at times. */
function namesIn(pattern: Node): string[] {
  const names: string[] = [];
  visit(pattern, (node) => {
    if (node.type === 'Identifier') names.push(node.name);
    return true;
  });
  return names;
}

function declaredBy(declaration: Acorn.Declaration): string[] {
  if (declaration.type !== 'VariableDeclaration') return [declaration.id.name];
  return declaration.declarations.flatMap(({ id }) => boundBy(id));
}

function boundBy(pattern: Acorn.Pattern): string[] {
  switch (pattern.type) {
    case 'Identifier':
      return [pattern.name];
    case 'ObjectPattern':
      return pattern.properties.flatMap((one) => boundBy(one.type === 'RestElement' ? one.argument : one.value));
    case 'ArrayPattern':
      return pattern.elements.flatMap((one) => (one === null ? [] : boundBy(one)));
    case 'RestElement':
      return boundBy(pattern.argument);
    case 'AssignmentPattern':
      return boundBy(pattern.left);
    default:
      return [];
  }
}

function nameOf(node: Acorn.Identifier | Acorn.Literal): string {
  return node.type === 'Identifier' ? node.name : String(node.value);
}
