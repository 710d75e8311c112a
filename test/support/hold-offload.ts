/**
 * A process that forwards between two ports in the kernel, by a map of targets, and keeps the forwarding pinned: the first one sets it up, a later one
 * takes it up and replaces the program. Usage: hold-offload.ts <folder> <hook> <port> <port>
 */
import { ArrayMap, at, loadProgram, type Program, ProgramBuilder, R0, R1, R6, u32 } from '../../src/bpf/index.ts';
import { withRouteClient } from '../../src/host/index.ts';
import { HOOKS, type Hook, PROGRAM_TYPE } from '../../src/offload/attach/hook.ts';
import { OffloadState } from '../../src/offload/attach/state.ts';

const [folder, hookName, ...ports] = process.argv.slice(2);
const hook: Hook = HOOKS.find((name) => name === hookName) ?? 'tc-ingress';
const targetOptions = { name: 'targets', value: u32, maxEntries: 256, mappable: true };
/** Where the program that took over counts. */
const COUNT_AT = 255;

function forwarder(targets: ArrayMap<number>, counts: boolean): Program {
  const b = new ProgramBuilder('millrace_test');
  const [key, countKey] = [b.stack(4), b.stack(4)];
  b.mov(R6, R1);
  b.store('u32', countKey, COUNT_AT);
  if (counts) {
    b.lookup(targets, countKey, () => {
      b.mov(R1, 1);
      b.atomic('add', 'u32', at(R0), R1);
    });
  }
  // ingress_ifindex of XDP, ifindex of tc.
  b.load(R1, 'u32', at(R6, hook === 'xdp' ? 12 : 40));
  b.store('u32', key, R1);
  b.lookup(targets, key, () => {
    b.load(R1, 'u32', at(R0));
    b.call('redirect', R1, 0);
    b.exit();
  });
  b.return(hook === 'xdp' ? 1 : 2);
  return loadProgram({ type: PROGRAM_TYPE[hook], code: b });
}

const options = { folder, layout: 'test 1' };
const adopted = OffloadState.adopt(options);
if (adopted.state === null) {
  const state = OffloadState.create(options);
  const targets = ArrayMap.create(targetOptions);
  const [first, second] = ports.map((name) => withRouteClient((client) => client.link(name).index));
  targets.set(first, second);
  targets.set(second, first);
  const program = forwarder(targets, false);
  const generation = state.begin();
  generation.pinMap('targets', targets);
  generation.pinProgram('forward', program);
  for (const netdev of [first, second]) {
    const { attachment, ...rest } = state.attach({ program, netdev, hook });
    if (attachment === null) throw new Error(JSON.stringify(rest));
  }
  generation.commit({ ports });
  console.log(`ready ${state.generation}`);
} else {
  const { state, data } = adopted;
  const targets = state.openMap('targets', (path) => ArrayMap.open(path, targetOptions));
  const former = state.openProgram('forward', PROGRAM_TYPE[hook]).info().id;
  const program = forwarder(targets, true);
  const generation = state.begin();
  generation.pinMap('targets', targets);
  generation.pinProgram('forward', program);
  const current = state.attachments.every(({ programId }) => programId === former);
  const replaced = state.attachments.filter((attachment) => attachment.replace(program)).length;
  generation.commit(data);
  console.log(
    `took over ${replaced} of generation ${state.generation - 1}, current: ${current}, ${JSON.stringify(data)}`,
  );
  setInterval(() => console.log(`counted ${targets.get(COUNT_AT)}`), 200);
}
setInterval(() => {}, 1000);
