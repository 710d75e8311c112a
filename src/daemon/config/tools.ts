/** What the command line needs of configurations without a daemon: check a file, print the schema, write YAML. Loaded by ../client.ts on demand. */
import { stringify } from 'yaml';

export { jsonSchemaText } from './json-schema.ts';
export { ConfigError, parseConfig } from './parse.ts';
export { parseMapping, parseSettings } from './settings.ts';

/** A configuration as YAML text. */
export function toYaml(data: unknown): string {
  return stringify(data, { lineWidth: 0 });
}
