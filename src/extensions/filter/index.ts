/** extensions/filter: the filtering extension. The only door of this room. */
export { filterExtension } from './extension.ts';
export type { FilterConfiguration, FilterRule } from './rule.ts';
export { FilterConfigurationError, parseFilterConfiguration } from './schema.ts';
