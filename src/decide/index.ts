/** decide/: the contract of deciders, what they look at, what they say, what it rests on, and the flows that are kept of it. The only door of this room. */
export {
  CONNECTION_STATES,
  type ConnectionStateName,
  ConnectionView,
  connectionStateOf,
  connectionWord,
  ICMPV6_APART,
  SWITCH_ZONE,
  TRACKED_RECIRCULATION,
} from './connection.ts';
export { FlowCounter } from './counter.ts';
export { DecidedFlows, type DecidedFlowsLimits, type DecidedFlowsOptions, type KeptDecision } from './decided-flows.ts';
export type { Decider, OutputDecision, PlacedDecider } from './decider.ts';
export { checkDropText, Decision, type NewTag } from './decision.ts';
export { DecisionError, shown } from './errors.ts';
export { Field, type FieldKind } from './field.ts';
export {
  ArpView,
  EthernetView,
  type FragmentKind,
  IcmpView,
  IpView,
  PacketView,
  PortsView,
  TcpView,
  VlanView,
} from './packet-view.ts';
export { asPortNumber, nicIn, type PortNumber, portIn, portNumber, sourceIn } from './port-number.ts';
export type { DecidedDrop, DecisionRecord } from './record.ts';
export {
  ArpRewrite,
  EthernetRewrite,
  IpRewrite,
  PortsRewrite,
  type SetValue,
  VlanRewrite,
} from './rewrites.ts';
export { Anchor } from './state/observed.ts';
export { type DecidedPort, ObservedPorts } from './state/ports.ts';
export { type FoundPrefix, ObservedPrefixes } from './state/prefixes.ts';
export { DeciderState } from './state/state.ts';
export { ObservedMap, ObservedSet, type TableKey } from './state/table.ts';
export { ObservedValue } from './state/value.ts';
export { WeightedChoice } from './state/weighted.ts';
