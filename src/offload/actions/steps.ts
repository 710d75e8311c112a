/** Where the flows of a shape send packets, read back from their parameters: for flows of a former process, of which nothing else is known. */
import type { Shape, Step, WordForm } from './shape.ts';

/**
 * The interfaces that a flow sends packets to.
 * @returns their indexes in the order of the actions; null when the shape has steps behind which outputs are not looked for
 */
export function outputsOf(shape: Shape, parameters: ArrayLike<number>): number[] | null {
  const outputs: number[] = [];
  let at = 0;
  for (const step of shape.steps) {
    if (step.kind === 'output') outputs.push(parameters[at]);
    const words = parameterWordsOf(step);
    if (words === -1) return null;
    at += words;
  }
  return at === shape.parameterWords ? outputs : null;
}

/** How many parameters a step has; -1 for steps whose number depends on more than what is written here. */
function parameterWordsOf(step: Step): number {
  switch (step.kind) {
    case 'output':
    case 'pushMpls':
    case 'metadata':
      return 2;
    case 'pushVlan':
    case 'popMpls':
    case 'trunc':
    case 'recirculate':
      return 1;
    case 'popVlan':
    case 'decTtl':
    case 'drop':
      return 0;
    case 'hash':
      return 3;
    case 'ipv4':
      return Number(step.tos) + Number(step.ttl) + step.words.reduce((sum, form) => sum + formWords(form), 0);
    case 'ethernet':
      return step.words.reduce((sum, form) => sum + formWords(form), 0);
    case 'ports':
    case 'setMpls':
      return formWords(step.word);
    default:
      return -1;
  }
}

function formWords(form: WordForm): number {
  return form === 'f' ? 1 : form === 'm' ? 2 : 0;
}
