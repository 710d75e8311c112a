/** extensions/learning: the built-in forwarding extension. The only door of this room. */
export type { ShownEntry } from './commands.ts';
export type { LearningConfiguration } from './configuration.ts';
export { learningExtension } from './extension.ts';
