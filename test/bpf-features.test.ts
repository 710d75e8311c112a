/** What the running kernel can do, and what is said of what it cannot. */
import { release } from 'node:os';
import { expect, test } from 'vitest';
import {
  featureReport,
  haveFeature,
  haveHelper,
  haveMapType,
  haveProgramType,
  kernelFunctionId,
  kernelVariableId,
  requireFeature,
  requireMapType,
  requireProgramType,
  UnsupportedError,
} from '../src/bpf/index.ts';

const [major = 0, minor = 0] = release().split('.').map(Number);
const runs = (since: string) => {
  const [wantMajor = 0, wantMinor = 0] = since.split('.').map(Number);
  return major > wantMajor || (major === wantMajor && minor >= wantMinor);
};

test('the report agrees with the version of the running kernel', () => {
  const report = featureReport();
  expect(report.filter(({ kind }) => kind === 'feature').length).toBeGreaterThan(10);
  for (const { kind, name, available, since } of report) {
    // A build may leave things out; it cannot have what came later, but for back-ports of distributions.
    if (kind === 'feature' && since !== undefined) expect(available, name).toBe(runs(since));
  }
  expect(haveProgramType('xdp') && haveProgramType('sched_cls') && haveMapType('hash')).toBe(true);
});

test('helpers are known for the types that may call them', () => {
  expect(haveHelper('xdp', 'map_lookup_elem')).toBe(true);
  expect(haveHelper('xdp', 'skb_load_bytes')).toBe(false);
  expect(haveHelper('sched_cls', 'skb_load_bytes')).toBe(true);
  expect(haveHelper('socket_filter', 'redirect')).toBe(false);
});

test('what is there is not complained of, and what is not is named', () => {
  requireFeature('mappableArrays');
  requireProgramType('xdp');
  requireMapType('array');
  expect(haveFeature('liveFrames')).toBe(runs('5.18'));
  expect(kernelFunctionId('bpf_rcu_read_lock')).toBeGreaterThan(0);
  expect(() => kernelFunctionId('no_such_function_in_any_kernel')).toThrow(UnsupportedError);
  expect(() => kernelVariableId('no_such_variable')).toThrow(/this kernel \(.*\) does not have/);
});
