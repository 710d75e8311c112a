/** The program of a port whose flow table has none yet: whatever comes goes up to the engine. */
import { loadProgram, type Program, ProgramBuilder, R1, R6 } from '../../../bpf/index.ts';
import { emitPunt } from '../../../offload/index.ts';

/** @param puntIndex interface index of the punt channel @throws VerifierError, PrivilegeError */
export function loadBaseProgram(puntIndex: number): Program {
  const b = new ProgramBuilder('millrace_punt');
  b.mov(R6, R1);
  emitPunt(b, R6, puntIndex);
  return loadProgram({ type: 'sched_cls', code: b });
}
