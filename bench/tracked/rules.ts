/** Rules of a firewall for OpenFlow, the same for everybody who speaks it: A may begin connections, and B answer. */

/** What new connections are translated to: so many addresses that 65,536 ports find place. */
export const TRANSLATED = ['10.9.0.101', '10.9.0.108'] as const;

/** Zones, so that some connections can be told from the rest: datagrams to this port are in the second one. */
export const ZONES = { usual: 1, other: 2 } as const;
export const PORT_OF_OTHER_ZONE = 2000;

function zoneRules(zone: number, match: string, translates: boolean): string[] {
  const nat = translates ? ',nat' : '';
  const choice = translates ? `,nat(src=${TRANSLATED.join('-')})` : '';
  return [
    `priority=${100 + zone},${match},ct_state=-trk,actions=ct(table=${zone},zone=${zone}${nat})`,
    `table=${zone},priority=100,ip,ct_state=+trk+new,in_port=sa,actions=ct(commit,zone=${zone}${choice}),output:sb`,
    `table=${zone},priority=100,ip,ct_state=+trk+est,in_port=sa,actions=output:sb`,
    `table=${zone},priority=100,ip,ct_state=+trk+est,in_port=sb,actions=output:sa`,
  ];
}

/** @param translates whether source addresses are translated */
export function firewallRules(translates: boolean): string[] {
  return [
    'priority=10,arp,actions=normal',
    ...zoneRules(ZONES.usual, 'ip', translates),
    ...zoneRules(ZONES.other, `udp,tp_dst=${PORT_OF_OTHER_ZONE}`, translates),
  ];
}

/** The same forwarding without connections. */
export const PLAIN_RULES: readonly string[] = [
  'priority=10,arp,actions=normal',
  'priority=100,ip,in_port=sa,actions=output:sb',
  'priority=100,ip,in_port=sb,actions=output:sa',
];
