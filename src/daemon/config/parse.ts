/**
 * From the text of millrace.yaml to a checked {@link Config}: YAML with positions, the schema (schema.ts), then what a schema
 * cannot say, such as that a static entry names a port that exists. All that is wrong is reported at once.
 */
import { existsSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { type Document, isScalar, Lexer, LineCounter, Parser, parseDocument, visit } from 'yaml';
import type { z } from 'zod';
import { ADDRESS_KEEPER, BUILTIN_EXTENSIONS } from '../extensions.ts';
import { messageOf } from '../rpc/failure.ts';
import { flawOf, MAX_LEVELS } from '../rpc/plain-data.ts';
import { flawsOfSettings } from './builtin-settings.ts';
import { captureFileProblem } from './capture-files.ts';
import { type ConfigIssue, describeZod, formatIssue, Locator, MOST_ISSUES } from './issues.ts';
import { type Config, deviceProblem, normalise, type Port } from './model.ts';
import { configSchema } from './schema.ts';
import { nearest } from './suggest.ts';

/** A configuration is not valid. The message lists the issues, one a line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** By their places in the file; of very many those that were found first. */
  readonly issues: readonly ConfigIssue[];

  /** @param issues all of them */
  constructor(issues: readonly ConfigIssue[]) {
    const told = issues.slice(0, MOST_ISSUES).sort((one, other) => one.line - other.line || one.column - other.column);
    const more = issues.length - told.length;
    super([...told.map(formatIssue), ...(more > 0 ? [`and ${more} more like these`] : [])].join('\n'));
    this.issues = told;
  }
}

/** Expansion of aliases is bounded, against files that are small and mean much. */
const MAX_ALIASES = 100;
/** What the library takes the longer over the more there are: names and types of parts of a text, and commas behind commas. */
const MAX_ODDITIES = 1000;

/**
 * Read a configuration.
 * @param text the file's text
 * @param file its path, for messages; relative paths inside are resolved against its folder
 * @throws ConfigError with everything that is wrong
 */
export function parseConfig(text: string, file: string): Config {
  const tooMuch = tooMuchOf(text);
  if (tooMuch !== null) {
    throw new ConfigError([{ file, line: 1, column: 1, path: '', message: `the configuration ${tooMuch}` }]);
  }
  const lines = new LineCounter();
  // The library compares each key of a mapping with each other.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false });
  const locate = new Locator(file, document, lines);
  const twice = keysTwice(document);
  if (twice.length > 0) throw new ConfigError(twice.map((at) => locate.at(at, [], 'Map keys must be unique')));
  if (document.errors.length > 0) {
    throw new ConfigError(document.errors.map((error) => locate.at(error.pos[0], [], yamlSentence(error.message))));
  }
  let data: unknown;
  try {
    data = document.toJS({ maxAliasCount: MAX_ALIASES }) ?? {};
  } catch (error) {
    throw new ConfigError([locate.at(0, [], yamlSentence(messageOf(error)))]);
  }
  const flaw = flawOf(data);
  if (flaw !== null) throw new ConfigError([locate.at(0, [], `the configuration ${flaw}`)]);
  fillEmptyPorts(data);
  const folder = dirname(resolve(file));
  const resolvePath = (path: string) => (isAbsolute(path) ? path : resolve(folder, path));
  const checked = configSchema.safeParse(data);
  if (!checked.success) {
    const issues = describeZod(checked.error, configSchema, data, locate);
    const sound = configSchema.safeParse(soundPartOf(data, checked.error));
    if (sound.success) issues.push(...crossCheck(normalise(sound.data, resolvePath), data, locate));
    throw new ConfigError(issues);
  }
  const config = normalise(checked.data, resolvePath);
  const issues = crossCheck(config, data, locate);
  if (issues.length > 0) throw new ConfigError(issues);
  return config;
}

/** What can be looked at further: without sections that the schema refuses. Of ports only those that it refuses are left out, and their names stay. */
function soundPartOf(data: unknown, error: z.ZodError): unknown {
  const sound = new Map<PropertyKey, unknown>(Object.entries(typeof data === 'object' && data !== null ? data : {}));
  for (const issue of error.issues) {
    const [section, name] = issue.path;
    const ports = sound.get('ports');
    if (section === 'ports' && name !== undefined && typeof ports === 'object')
      sound.set('ports', { ...ports, [name]: { kind: 'memory' } });
    else if (section !== undefined) sound.delete(section);
    else if (issue.code === 'unrecognized_keys') for (const key of issue.keys) sound.delete(key);
  }
  return Object.fromEntries(sound);
}

/** A port with nothing behind its colon has nothing to say: it is an interface of that name. */
function fillEmptyPorts(data: unknown): void {
  const ports: unknown = typeof data === 'object' && data !== null && 'ports' in data ? data.ports : null;
  if (typeof ports !== 'object' || ports === null || Array.isArray(ports)) return;
  for (const [name, port] of Object.entries(ports)) {
    if (port === null) Object.assign(ports, { [name]: {} });
  }
}

/**
 * What a text has too much of for its size to be paid for, as the rest of a sentence; null for nothing. What makes data of a text goes down on the stack, and
 * ends the process where a regular expression is compiled at its very end; splitting it into tokens does not.
 */
function tooMuchOf(text: string): string | null {
  const parser = new Parser();
  let oddities = 0;
  let before = '';
  for (const lexeme of new Lexer().lex(text)) {
    if (lexeme.startsWith('&') || lexeme.startsWith('!') || (lexeme === ',' && before === ',')) oddities += 1;
    if (oddities > MAX_ODDITIES) return `has more than ${MAX_ODDITIES} anchors, tags and empty places`;
    if (lexeme.trim() !== '') before = lexeme;
    for (const _ of parser.next(lexeme));
    // The document, and what is being read, are there besides lists and mappings.
    if (parser.stack.length > MAX_LEVELS + 2) return `nests deeper than ${MAX_LEVELS} levels`;
  }
  return null;
}

/** Where keys stand that are in their mapping already. */
function keysTwice(document: Document): number[] {
  const twice: number[] = [];
  visit(document, {
    Map(_, { items }) {
      const known = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        if (known.has(key.value)) twice.push(key.range?.[0] ?? 0);
        known.add(key.value);
      }
    },
  });
  return twice;
}

function yamlSentence(message: string): string {
  const first = message.split('\n')[0];
  return first.endsWith('.') ? first.slice(0, -1) : first;
}

/** What the schema cannot say: names that are used twice, references to what is not there. */
function crossCheck(config: Config, data: unknown, locate: Locator): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const names = new Map<string, number>();
  config.extensions.forEach((extension, index) => {
    if (extension.module === null && !BUILTIN_EXTENSIONS.includes(extension.name)) {
      const near = nearest(extension.name, BUILTIN_EXTENSIONS);
      const help = near === null ? `the built-in ones are ${BUILTIN_EXTENSIONS.join(', ')}` : `did you mean "${near}"?`;
      const message = `there is no built-in extension "${extension.name}"; ${help} (one of your own needs "module")`;
      issues.push(locate.atPath(['extensions', index], message));
    } else if (extension.module !== null && !existsSync(extension.module)) {
      issues.push(locate.atPath(['extensions', index, 'module'], `there is no file ${extension.module}`));
    } else if (extension.module === null) {
      for (const { path, message } of flawsOfSettings(extension.name, extension.config)) {
        issues.push(locate.atPath(['extensions', index, 'config', ...path], message));
      }
    }
    const earlier = names.get(extension.name);
    if (earlier === undefined) names.set(extension.name, index);
    else
      issues.push(
        locate.atPath(['extensions', index], `"${extension.name}" is in the stack already, as entry ${earlier + 1}`),
      );
  });
  const devices = new Map<string, string>();
  const recorders: [string, Port][] = [];
  for (const [name, port] of config.ports) {
    if (port.kind === 'pcap') {
      const problem = captureFileProblem(name, port, recorders);
      if (problem !== null) issues.push(locate.atPath(['ports', name], problem, true));
      recorders.push([name, port]);
    }
    if (port.kind !== 'netdev' && port.kind !== 'tap') continue;
    const problem = deviceProblem(port);
    if (problem !== null) issues.push(locate.atPath(['ports', name], problem, true));
    const key = port.kind === 'tap' && port.netns !== undefined ? `${port.netns} ${port.device}` : port.device;
    const earlier = devices.get(key);
    if (earlier === undefined) devices.set(key, name);
    else
      issues.push(
        locate.atPath(['ports', name], `the interface ${port.device} belongs to port "${earlier}" already`, true),
      );
  }
  const seen = new Set<string>();
  config.fdb.static.forEach((entry, index) => {
    if (!config.ports.has(entry.port)) {
      const near = nearest(entry.port, [...config.ports.keys()]);
      const help = near === null ? '' : `; did you mean "${near}"?`;
      issues.push(locate.atPath(['fdb', 'static', index, 'port'], `there is no port "${entry.port}"${help}`));
    }
    const key = `${entry.mac} ${entry.vlan}`;
    if (seen.has(key))
      issues.push(locate.atPath(['fdb', 'static', index], `${entry.mac} in VLAN ${entry.vlan} has an entry already`));
    seen.add(key);
  });
  if (
    config.fdb.static.length > 0 &&
    !config.extensions.some((extension) => extension.name === ADDRESS_KEEPER && extension.module === null)
  ) {
    const present = typeof data === 'object' && data !== null && 'fdb' in data;
    if (present)
      issues.push(
        locate.atPath(['fdb', 'static'], `static entries need the extension "${ADDRESS_KEEPER}" in the stack`, true),
      );
  }
  return issues;
}
