/** What the offload says of ports that it was not told of. */
import { expect, test } from 'vitest';
import { parseActions, parseFlowKey } from '../../flow/index.ts';
import { type KeyPort, toKeyPort } from '../../net/index.ts';
import { compileActions } from '../actions/compile.ts';
import { OffloadPorts } from './ports.ts';

test('why a port is not there is what its owner says, else that it has no interface', () => {
  const ports = new OffloadPorts((number) => (number === 7 ? 'is not offloaded: offload=off' : null));
  expect([7, 8].map((number) => ports.absenceOf(toKeyPort(number)))).toEqual([
    'is not offloaded: offload=off',
    'has no interface',
  ]);
  const { key, mask } = parseFlowKey('in_port(1),eth(),eth_type(0x0800),ipv4()');
  const context = {
    hook: 'tc',
    port: (number: KeyPort) => ports.target(number),
    absenceOf: (number: KeyPort) => ports.absenceOf(number),
  } as const;
  const reasonFor = (actions: string) => compileActions(parseActions(actions), key, mask, context);
  expect(reasonFor('7')).toEqual({ reason: 'output to port 7, which is not offloaded: offload=off' });
  expect(reasonFor('8')).toEqual({ reason: 'output to port 8, which has no interface' });
});
