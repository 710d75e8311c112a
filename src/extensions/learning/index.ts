/** extensions/learning: the built-in forwarding extension. The only door of this room. */
export type { ShownEntry } from './commands.ts';
export { learningExtension } from './extension.ts';
