/** The published JSON schema of millrace.yaml, made from the zod schemas. `millrace config schema` prints it; schema/ holds a copy for editors. */
import { z } from 'zod';
import { configSchema } from './schema.ts';

/** The schema's text, ending in a newline; the file schema/millrace.schema.json holds exactly this. */
export function jsonSchemaText(): string {
  const schema = z.toJSONSchema(configSchema, { io: 'input', target: 'draft-2020-12', reused: 'ref' });
  const { $schema, ...rest } = schema;
  return `${JSON.stringify({ $schema, title: 'millrace.yaml', ...rest }, null, 2)}\n`;
}
