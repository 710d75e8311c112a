/** extensions/filter: the filtering extension. The only door of this room. */
export { type FILTER_COMMANDS, type FilterStatus, filterExtension } from './extension.ts';
