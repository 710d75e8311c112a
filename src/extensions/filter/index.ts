/** extensions/filter: the filtering extension. The only door of this room. */
export { filterExtension } from './extension.ts';
