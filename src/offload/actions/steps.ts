/** The table of all steps, and what is read off it: the ids of shapes, where their flows send packets, and whether they look them up again. */
import { type InterfaceIndex, isInterfaceIndex } from '../../net/index.ts';
import { length } from './check-length.ts';
import type { OffloadHook } from './contract.ts';
import { forget, track, translate } from './ct.ts';
import { decTtl } from './dec-ttl.ts';
import { drop } from './drop.ts';
import { ethernet } from './ethernet.ts';
import { hash } from './hash.ts';
import { ipv4, ipv6 } from './ip.ts';
import { popMpls, pushMpls, setMpls } from './mpls.ts';
import { output, trunc } from './output.ts';
import { ports } from './ports.ts';
import { recirculate } from './recirc.ts';
import { metadata } from './set.ts';
import type { Checks, Shape, Step, StepCode } from './shape.ts';
import { popVlan, pushVlan } from './vlan.ts';

const STEPS: { readonly [Kind in Step['kind']]: StepCode<Extract<Step, { kind: Kind }>> } = {
  output,
  trunc,
  ethernet,
  ipv4,
  ipv6,
  ports,
  metadata,
  decTtl,
  pushVlan,
  popVlan,
  pushMpls,
  popMpls,
  setMpls,
  hash,
  recirculate,
  length,
  drop,
  track,
  translate,
  forget,
};

/** What is known of a step. */
export function codeOf(step: Step): StepCode {
  return STEPS[step.kind] as StepCode;
}

/** How steps are written in an id. */
function stepNames(steps: readonly Step[]): string {
  return steps.map((step) => codeOf(step).name(step, stepNames)).join(' ');
}

/** The id of a shape. */
export function shapeId(hook: OffloadHook, checks: Checks, steps: readonly Step[]): string {
  const needs: string[] = [];
  if (checks.layer3Bytes > 0) needs.push(`l3=${checks.layer3Bytes}`);
  if (checks.plain !== 0) needs.push(`plain${checks.plain}=${checks.plainProtocol}`);
  if (checks.notLater) needs.push('not-later');
  if (checks.ttlAbove > 0) needs.push(`ttl${checks.ttlVersion}>${checks.ttlAbove}`);
  if (checks.anyTransport) needs.push('transport');
  if (checks.tags !== 'any') needs.push(`tags=${checks.tags}`);
  if (checks.single) needs.push('single');
  if (checks.layer3At14) needs.push('l3@14');
  if (checks.resumes) needs.push('resume');
  if (checks.undoes) needs.push('undo');
  return `${hook}${needs.length === 0 ? '' : ` need ${needs.join(',')}`} | ${stepNames(steps)}`;
}

/** How many parameters steps have. */
function parameterWords(steps: readonly Step[]): number {
  return steps.reduce((sum, step) => sum + codeOf(step).parameters(step, parameterWords), 0);
}

/**
 * The interfaces that a flow sends packets to, read back from its parameters: for flows of a former process, of which nothing else is known.
 * @returns their indexes in the order of the actions; null when its steps are not those of this process
 */
export function outputsOf(shape: Shape, parameters: ArrayLike<number>): InterfaceIndex[] | null {
  const isKnown = shape.steps.every(({ kind }) => kind in STEPS);
  if (!isKnown || parameterWords(shape.steps) !== shape.parameterWords) return null;
  const outputs = outputsIn(shape.steps, parameters, 0);
  return outputs.every(isInterfaceIndex) ? outputs : null;
}

function outputsIn(steps: readonly Step[], parameters: ArrayLike<number>, from: number): number[] {
  const outputs: number[] = [];
  let at = from;
  for (const step of steps) {
    if (step.kind === 'output') outputs.push(parameters[at]);
    // Both its ways lead to the same interfaces.
    if (step.kind === 'length') outputs.push(...outputsIn(step.longer, parameters, at + 1));
    at += codeOf(step).parameters(step, parameterWords);
  }
  return outputs;
}

/** Whether packets of a flow with these steps may be looked up again; true of steps that are not those of this process. */
export function recirculates(steps: readonly Step[]): boolean {
  return steps.some((step) => {
    if (step.kind === 'length') return recirculates(step.longer) || recirculates(step.otherwise);
    return step.kind === 'recirculate' || !(step.kind in STEPS);
  });
}
