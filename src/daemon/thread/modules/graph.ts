/**
 * A module of a user's with all that it imports. Files and their code are new for each graph, and collected when nothing of it is in use any
 * more; the rooms of the running Millrace, modules of Node's and CommonJS packages are those that are there. All of it is done at once, without promises:
 * the datapath thread waits for nothing. Neighbours: source-text.ts says how a module becomes a function, resolve.ts what imports mean.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import { placeAt, SourceError, SourceFiles } from './places.ts';
import { resolveImport, type Target } from './resolve.ts';
import { Name, readSourceText, type SourceText } from './source-text.ts';
import { isTypeScript, toJavaScript } from './typescript.ts';

/** Files of one graph. */
const MOST_FILES = 4096;
const MOST_BYTES = 16 << 20;
const STRICT = "'use strict';";

/** What a module exports, as it is now, and who is told when that changes. */
class Exports {
  readonly values: Record<string, unknown> = {};
  /** Its code has run. */
  isDone = false;
  /** What it exports may change afterwards. */
  isLive = false;
  readonly #watchers = new Map<string, ((value: unknown) => void)[]>();

  set(name: string, value: unknown): void {
    if (name in this.values && this.values[name] === value) return;
    this.values[name] = value;
    for (const watcher of this.#watchers.get(name) ?? []) watcher(value);
  }

  /** Be told of values that the name gets from now on, if it may get any. */
  watch(name: string, watcher: (value: unknown) => void): void {
    if (this.isDone && !this.isLive) return;
    this.#watchers.set(name, [...(this.#watchers.get(name) ?? []), watcher]);
  }
}

class EsModule extends Exports {
  readonly path: string;
  readonly source: SourceText;
  /** The text of the file, for places. */
  readonly code: string;
  /** What it imports, by specifier, without what only types use. */
  readonly imported = new Map<string, EsModule | Target>();
  /** Its code is running, or has run. */
  isRunning = false;
  /** What it has thrown; whoever imports it later gets that again. */
  failure: { readonly error: unknown } | null = null;

  constructor(path: string, code: string, source: SourceText) {
    super();
    this.path = path;
    this.code = code;
    this.source = source;
  }
}

export class ModuleGraph {
  readonly files = new SourceFiles();
  readonly #rooms: ReadonlyMap<string, object>;
  readonly #names: readonly string[];
  readonly #modules = new Map<string, EsModule>();
  readonly #others = new Map<string, Exports>();
  readonly #commonJs = new Map<string, { exports: unknown }>();

  /** @param rooms what `millrace/NAME` is, by name */
  constructor(rooms: ReadonlyMap<string, object>) {
    this.#rooms = rooms;
    this.#names = [...rooms.keys()];
  }

  /**
   * Read, compile and run a file with all that it imports.
   * @param path an absolute path
   * @returns what it exports, by name
   * @throws SourceError with the place; what the code throws; Error
   */
  import(path: string): Readonly<Record<string, unknown>> {
    return this.#load(resolveImport(path, path, this.#names)).values;
  }

  #load(target: Target): Exports {
    const module = this.#read(target);
    if (module === null) return this.#other(target);
    this.#run(module);
    return module;
  }

  /** The ES module in a file, and those that it imports, parsed; null for anything else. */
  #read(target: Target): EsModule | null {
    const fresh: EsModule[] = [];
    const entry = this.#esModule(target, fresh);
    for (let module = fresh.pop(); module !== undefined; module = fresh.pop()) {
      for (const { specifier, start, names, isForEffect } of module.source.imports) {
        const isType = isTypeScript(module.path) && !isForEffect && !names.some(({ isUsed }) => isUsed);
        if (!isType) this.#find(module, specifier, start, fresh);
      }
    }
    return entry;
  }

  #find(module: EsModule, specifier: string, start: number, fresh: EsModule[]): void {
    if (module.imported.has(specifier)) return;
    try {
      const target = resolveImport(specifier, module.path, this.#names);
      module.imported.set(specifier, this.#esModule(target, fresh) ?? target);
    } catch (error) {
      if (error instanceof SourceError || !(error instanceof Error)) throw error;
      throw this.#errorAt(module, start, error.message);
    }
  }

  #errorAt(module: EsModule, offset: number, message: string): SourceError {
    return new SourceError(message, this.files.inSource(placeAt(module.path, module.code, offset)));
  }

  #missing(module: EsModule, offset: number, specifier: string, name: string): SourceError {
    const { message, place } = this.#errorAt(module, offset, `${specifier} does not export ${name}`);
    return new SourceError(message, place, 'if it is a type, import and export it with `type`');
  }

  #esModule(target: Target, fresh: EsModule[]): EsModule | null {
    if (target.kind !== 'file') return null;
    const { path } = target;
    const known = this.#modules.get(path);
    if (known !== undefined) return known;
    const ending = extname(path);
    if (ending === '.json' || ending === '.node' || ending === '.cjs' || ending === '.cts') return null;
    if (this.#others.has(path)) return null;
    const code = this.#compile(path);
    const source = this.#take(path, code, ending === '.mjs' || ending === '.mts' ? 'module' : null);
    if (source.isCommonJs) return null;
    if (this.#modules.size >= MOST_FILES) throw new Error(`it imports more than ${MOST_FILES} files`);
    const module = new EsModule(path, code, source);
    this.#modules.set(path, module);
    fresh.push(module);
    return module;
  }

  /** Run a module behind those that it imports. In a circle the first one that is met runs last. */
  #run(module: EsModule): void {
    if (module.failure !== null) throw module.failure.error;
    if (module.isRunning) return;
    module.isRunning = true;
    try {
      this.#runOnce(module);
    } catch (error) {
      module.failure = { error };
      throw error;
    }
  }

  #runOnce(module: EsModule): void {
    const imported = new Map<string, Exports>();
    for (const [specifier, one] of module.imported) {
      if (one instanceof EsModule) this.#run(one);
      imported.set(specifier, one instanceof EsModule ? one : this.#other(one));
    }
    const { parameters, values, changing } = this.#bind(module, imported);
    const locals = [...module.source.exports.values()];
    const names = [...module.source.exports.keys()];
    let publish = () => {};
    const live = (value: unknown) => {
      publish();
      return value;
    };
    const meta = this.#metaOf(module.path);
    const load = (specifier: unknown) => this.#importLater(String(specifier), module.path);
    const cases = changing.map(({ local }, index) => `case ${index}: ${local} = ${Name.VALUE}; break;`).join(' ');
    const setter = `(${Name.INDEX}, ${Name.VALUE}) => { switch (${Name.INDEX}) { ${cases} } }`;
    const body = `${STRICT}${module.source.body}\n;return [() => [${locals.join(', ')}], ${setter}];`;
    const run = vm.compileFunction(body, [...parameters, Name.DEFAULT, Name.META, Name.IMPORT, Name.LIVE], {
      filename: module.path,
      columnOffset: -STRICT.length,
    }) as (...given: unknown[]) => [() => unknown[], (index: number, value: unknown) => void];
    const [read, change] = run.call(undefined, ...values, undefined, meta, load, live);
    publish = () => {
      const now = read();
      for (let i = 0; i < names.length; i += 1) module.set(names[i], now[i]);
    };
    changing.forEach(({ from, name }, index) => {
      from.watch(name, (value) => {
        change(index, value);
        publish();
      });
      if (from.isDone || name in from.values) change(index, from.values[name]);
    });
    publish();
    this.#exportAgain(module, imported);
    module.isDone = true;
  }

  /** What the imported names of a module are. */
  #bind(module: EsModule, imported: ReadonlyMap<string, Exports>) {
    const parameters: string[] = [];
    const values: unknown[] = [];
    const changing: { local: string; name: string; from: Exports }[] = [];
    for (const { specifier, names } of module.source.imports) {
      const from = imported.get(specifier);
      for (const { name, local, start, isUsed } of from === undefined ? [] : names) {
        if (from === undefined) continue;
        const isThere = name === '*' || this.#has(from, name, []);
        if (!isThere && !isUsed && isTypeScript(module.path)) continue;
        if (!isThere) throw this.#missing(module, start, specifier, name);
        parameters.push(local);
        values.push(name === '*' ? from.values : from.values[name]);
        if (name !== '*' && (!from.isDone || from.isLive)) changing.push({ local, name, from });
      }
    }
    module.isLive = module.source.isLive || changing.length > 0;
    return { parameters, values, changing };
  }

  /** Give on what other modules export. */
  #exportAgain(module: EsModule, imported: ReadonlyMap<string, Exports>): void {
    for (const { specifier, start, name, as } of module.source.reExports) {
      const from = imported.get(specifier);
      if (from === undefined) continue;
      const giveOn = (theirs: string, ours: string) => {
        if (theirs in from.values) module.set(ours, from.values[theirs]);
        from.watch(theirs, (value) => module.set(ours, value));
        if (!from.isDone || from.isLive) module.isLive = true;
      };
      if (as === null) {
        for (const theirs of this.#namesOf(from, [])) {
          if (theirs !== 'default' && !module.source.exports.has(theirs)) giveOn(theirs, theirs);
        }
      } else if (name === '*') module.set(as, from.values);
      else if (this.#has(from, name, [])) giveOn(name, as);
      else throw this.#missing(module, start, specifier, name);
    }
  }

  /** Whether a module exports a name, or will when it has run. */
  #has(from: Exports, name: string, within: readonly Exports[]): boolean {
    return this.#namesOf(from, within).has(name);
  }

  #namesOf(from: Exports, within: readonly Exports[]): ReadonlySet<string> {
    const names = new Set(Object.keys(from.values));
    if (!(from instanceof EsModule) || from.isDone || within.includes(from)) return names;
    for (const name of from.source.exports.keys()) names.add(name);
    for (const { specifier, as } of from.source.reExports) {
      const next = from.imported.get(specifier);
      if (as !== null) names.add(as);
      else if (next instanceof EsModule) for (const name of this.#namesOf(next, [...within, from])) names.add(name);
    }
    return names;
  }

  /** `import()` of a user's code. */
  #importLater(specifier: string, from: string): Promise<unknown> {
    return new Promise((resolve) => resolve(this.#load(resolveImport(specifier, from, this.#names)).values));
  }

  #metaOf(path: string): object {
    return {
      url: pathToFileURL(path).href,
      filename: path,
      dirname: dirname(path),
      resolve: (specifier: string) => {
        const target = resolveImport(specifier, path, this.#names);
        return target.kind === 'file' ? pathToFileURL(target.path).href : target.name;
      },
    };
  }

  /** What is no ES module: its exports are all there. */
  #other(target: Target): Exports {
    const key = target.kind === 'file' ? target.path : `${target.kind} ${target.name}`;
    const known = this.#others.get(key);
    if (known !== undefined) return known;
    const exports = exportsOf(this.#require(target), target.kind === 'room');
    this.#others.set(key, exports);
    return exports;
  }

  /** What `require` gives for a target. */
  #require(target: Target): unknown {
    if (target.kind === 'room') return this.#rooms.get(target.name);
    if (target.kind === 'builtin') return process.getBuiltinModule(target.name);
    const { path, isPackage } = target;
    if (extname(path) === '.json') return parseJson(path);
    // Packages stay as they are, and there is one of each, as elsewhere in Node.
    if (isPackage || extname(path) === '.node') {
      if (!statSync(path).isFile()) throw new Error(`it is no file: ${path}`);
      return createRequire(path)(path);
    }
    return this.#requireFile(path);
  }

  #requireFile(path: string): unknown {
    const known = this.#commonJs.get(path);
    if (known !== undefined) return known.exports;
    const code = this.#compile(path);
    const { isCommonJs, body } = this.#take(path, code, /\.c[jt]s$/.test(path) ? 'script' : null);
    if (!isCommonJs) return this.#load({ kind: 'file', path, isPackage: false }).values;
    const module: { exports: unknown } = { exports: {} };
    const parameters = ['exports', 'require', 'module', '__filename', '__dirname', Name.IMPORT];
    const run = vm.compileFunction(body, parameters, { filename: path }) as (...given: unknown[]) => void;
    this.#commonJs.set(path, module);
    const require = (specifier: string) => this.#require(resolveImport(specifier, path, this.#names));
    const load = (specifier: unknown) => this.#importLater(String(specifier), path);
    run.call(module.exports, module.exports, require, module, path, dirname(path), load);
    return module.exports;
  }

  /** Take a file's JavaScript apart. @throws SourceError with a place in its source */
  #take(path: string, code: string, kind: 'module' | 'script' | null): SourceText {
    try {
      return readSourceText(path, code, kind);
    } catch (error) {
      throw error instanceof SourceError ? new SourceError(error.message, this.files.inSource(error.place)) : error;
    }
  }

  /** The JavaScript of a file. */
  #compile(path: string): string {
    const source = readSource(path);
    const { code, map } = isTypeScript(path) ? toJavaScript(path, source) : { code: source, map: null };
    this.files.add(path, map);
    return code;
  }
}

/** The exports of something that is there: what it has, and for what is no namespace of an ES module the thing itself as the default. */
function exportsOf(value: unknown, isNamespace: boolean): Exports {
  const exports = new Exports();
  exports.isDone = true;
  if ((typeof value === 'object' && value !== null) || typeof value === 'function') {
    for (const name of Object.keys(value)) exports.set(name, Reflect.get(value, name));
    if (isNamespace || Reflect.get(value, Symbol.toStringTag) === 'Module') return exports;
  }
  exports.set('default', value);
  return exports;
}

function parseJson(path: string): unknown {
  const text = readSource(path);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SourceError((error as Error).message, { path, line: 0, column: 0 });
  }
}

/** Read a file, and nothing that would have to be waited for, such as a pipe. */
function readSource(path: string): string {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) throw new Error(`it is no file: ${path}`);
    if (stat.size > MOST_BYTES) throw new Error(`it has more than ${MOST_BYTES >> 20} MiB: ${path}`);
    return readFileSync(descriptor, 'utf8').replace(/^\uFEFF/, '');
  } finally {
    closeSync(descriptor);
  }
}
