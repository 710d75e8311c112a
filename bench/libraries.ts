/**
 * The figures of the libraries, each room in a process of its own so that one's compiled code is not the other's:
 *
 *     node dist-bench/bench/libraries.js bpf|flow|decide|connections|tables|tunnels      prints JSON
 */
import { benchBatchUpdate, benchGenerator, benchLoad, benchMappedReads } from './bpf.ts';
import { benchConnections } from './connections.ts';
import { benchDecisions } from './decide.ts';
import { benchFlows, type FlowBench } from './flow.ts';
import { benchHostTables } from './host-tables.ts';
import { benchTunnels } from './tunnels.ts';

/** Figures of bpf/. */
export interface BpfFigures {
  generator: Awaited<ReturnType<typeof benchGenerator>>;
  reads: ReturnType<typeof benchMappedReads>;
  batch: ReturnType<typeof benchBatchUpdate>;
  load: ReturnType<typeof benchLoad>;
}

/** Figures of flow/, for one mask and for eight. */
export interface FlowFigures {
  oneMask: FlowBench;
  eightMasks: FlowBench;
}

async function bpf(): Promise<BpfFigures> {
  return {
    generator: await benchGenerator(2_000),
    reads: benchMappedReads(),
    batch: benchBatchUpdate(),
    load: benchLoad(),
  };
}

function flow(): FlowFigures {
  return { oneMask: benchFlows({ masks: 1 }), eightMasks: benchFlows({ masks: 8 }) };
}

const room = process.argv[2];
if (room === 'bpf') process.stdout.write(`${JSON.stringify(await bpf())}\n`);
else if (room === 'flow') process.stdout.write(`${JSON.stringify(flow())}\n`);
else if (room === 'decide') process.stdout.write(`${JSON.stringify(benchDecisions())}\n`);
else if (room === 'connections') process.stdout.write(`${JSON.stringify(benchConnections())}\n`);
else if (room === 'tables') process.stdout.write(`${JSON.stringify(benchHostTables())}\n`);
else if (room === 'tunnels') process.stdout.write(`${JSON.stringify(benchTunnels())}\n`);
else throw new Error('name the room: bpf, flow, decide, connections, tables or tunnels');
