/** flow/: flow keys and masks, the megaflow table, action lists and the engine that runs them. The only door of this room. */

export { Extraction, extract } from './key/extract.ts';
export { FlowKey } from './key/key.ts';
export { KEY_WORDS, Word } from './key/layout.ts';
export { FlowTable, PutMode } from './table/table.ts';
