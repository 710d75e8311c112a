/** What tunnels carry besides Ethernet frames. */
import { FlowEtherType, isMpls } from '../flow/index.ts';
import { EtherType } from '../net/index.ts';

/** Whether packets of this EtherType may travel without an Ethernet header. */
export function isLayer3Payload(etherType: number): boolean {
  return (
    etherType === EtherType.IPV4 || etherType === EtherType.IPV6 || isMpls(etherType) || etherType === FlowEtherType.NSH
  );
}
