/** switch/: the extensible switch. The only door of this room; start reading at api.ts and extension.ts. */
export {
  Anchor,
  type ArpRewrite,
  type ArpView,
  CONNECTION_STATES,
  type ConnectionStateName,
  type ConnectionView,
  type DecidedPort,
  type Decider,
  type DeciderState,
  type Decision,
  DecisionError,
  type EthernetRewrite,
  type EthernetView,
  type Field,
  type FieldKind,
  FlowCounter,
  type FoundPrefix,
  type FragmentKind,
  ICMPV6_APART,
  type IcmpView,
  type IpRewrite,
  type IpView,
  type NewTag,
  nicIn,
  type ObservedMap,
  type ObservedPorts,
  type ObservedPrefixes,
  type ObservedSet,
  type ObservedValue,
  type OutputDecision,
  type PacketView,
  type PortNumber,
  type PortsRewrite,
  type PortsView,
  portIn,
  type SetValue,
  type TableKey,
  type TcpView,
  type VlanRewrite,
  type VlanView,
  type WeightedChoice,
} from '../decide/index.ts';
export type {
  DropCount,
  ExtensionInfo,
  NicBackend,
  NicInfo,
  NicOptions,
  PortCounters,
  PortInfo,
  PortOptions,
  SwitchCounters,
  SwitchEvent,
  SwitchOptions,
  TraceStep,
  VirtualSwitch,
} from './api.ts';
export {
  type CallsOf,
  type Command,
  type Commands,
  checkedBy,
  command,
  runCommand,
  type ValueSchema,
} from './commands.ts';
export { Operation } from './control/operation.ts';
export type {
  AclProperty,
  AclRule,
  CustomProperty,
  GuardProperty,
  IsolationProperty,
  JsonValue,
  MonitorProperty,
  PortProperty,
  PortPropertyType,
  ProfileProperty,
  QosProperty,
  RoutingDomainProperty,
  SecurityProperty,
  SwitchProperty,
  VlanProperty,
} from './control/properties.ts';
export { CarriedFlows } from './decider/carried-flows.ts';
export {
  type DeciderDefinition,
  type DeciderExtension,
  type DeciderHandle,
  defineDecider,
} from './decider/define.ts';
export type { StackedDecider } from './decider/placed.ts';
export { DropReason, type DropReasonCode, type DropReasonInfo } from './drop-reason.ts';
export { RuleError, SwitchError, type SwitchErrorCode } from './errors.ts';
export {
  type Counter,
  type EntryRecord,
  type ExplainedCopy,
  type ExplainedDestination,
  type Explanation,
  type Extension,
  type ExtensionDescriptor,
  type ExtensionFactory,
  type ExtensionHandle,
  type ExtensionState,
  type ExtensionType,
  type HostServices,
  type LogLevel,
  type StandardPolicies,
  type TimerHandle,
  TYPE_ORDER,
} from './extension.ts';
export {
  DEFAULT_NIC_INDEX,
  DEFAULT_PORT_ID,
  MAX_NIC_INDEX,
  MAX_PORT_ID,
  type NicParameters,
  type NicRequest,
  type NicState,
  type Oid,
  type OidAction,
  type OidKind,
  type OidRequest,
  type PortParameters,
  type PortState,
  type PortType,
  type QueryResult,
  type SavedState,
  type Status,
  type StatusIndication,
} from './oid/oid.ts';
export { ContextFlag, contextOf, DestinationFlag, ForwardingContext, PacketFlag } from './path/context.ts';
export { type CarriedPackets, type FlowForwarder, FlowForwarding } from './path/flow-forwarding.ts';
export { Learned, type MacEntry, MacTable } from './path/mac-table.ts';
export { RefusedFrames } from './path/refused.ts';
export type { PacketDomains, Shortcuts } from './path/shortcut.ts';
export type { BindingInfo } from './policies/address-binding.ts';
export { createSwitch } from './switch.ts';
export { errorOf, messageOf } from './thrown.ts';
