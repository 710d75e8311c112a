/** tunnels/: encapsulation and decapsulation of VXLAN, Geneve, GRE and STT. The only door of this room. */
export { Decapsulator } from './decapsulate.ts';
export { decapsulatedEcn, ECN_DROP, Ecn, encapsulatedTos } from './ecn.ts';
export { Encapsulator, type EncapsulatorSettings } from './encapsulate.ts';
export { FIRST_SOURCE_PORT, InnerFlow } from './inner-flow.ts';
export { TunnelWord } from './key.ts';
export { STT_PORT, TunnelKind, TunnelPort, type TunnelPortSettings, TunnelPorts } from './port.ts';
export { TUNNEL_RESULTS, TunnelResult, tunnelResultName } from './result.ts';
export { RowEncapsulator } from './rows.ts';
export { encapsulateSegments } from './segments.ts';
export { SttReceiver, type SttReceiverSettings } from './stt/receiver.ts';
export { tooBigAnswer } from './too-big.ts';
