/** extensions/learning: the built-in forwarding extension. The only door of this room. */
export type { LEARNING_COMMANDS, LearningStatus } from './commands.ts';
export { learningExtension } from './extension.ts';
