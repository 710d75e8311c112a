import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { jsonSchemaText } from './json-schema.ts';

test('the published JSON schema is the one that the code makes (renew it with: millrace config schema > schema/millrace.schema.json)', () => {
  const published = readFileSync(new URL('../../../schema/millrace.schema.json', import.meta.url), 'utf8');
  expect(published).toBe(jsonSchemaText());
});
