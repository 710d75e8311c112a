/** `millrace port`: the ports of the switch. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { type AclCount, loadConfigTools, type PortInfo } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { CliError } from '../exit.ts';
import { count } from '../format.ts';
import { pairs, table } from '../table.ts';

/** Shortcuts for the settings that are changed most. */
interface PolicyOptions {
  access?: string;
  trunk?: string;
  native?: string;
  vlan?: boolean;
  ovsName?: string;
}

interface AddOptions extends PolicyOptions {
  kind?: string;
  device?: string;
  wait?: boolean;
  netns?: string;
  read?: string;
  write?: string;
}

function vlanId(text: string): number {
  if (!/^\d{1,4}$/.test(text))
    throw new CliError('USAGE', `"${text}" is not a VLAN id`, 'give a number from 1 to 4094');
  return Number(text);
}

/** The VLAN section that the shortcuts ask for; undefined for none. */
function vlanOf(options: PolicyOptions): unknown {
  if (options.access !== undefined && options.trunk !== undefined) {
    throw new CliError('USAGE', 'a port is either --access or --trunk, not both');
  }
  if (options.access !== undefined) return { mode: 'access', id: vlanId(options.access) };
  if (options.trunk !== undefined) {
    const native = options.native === undefined ? {} : { native: vlanId(options.native) };
    if (options.trunk === 'all') return { mode: 'trunk', ...native };
    const allowed = options.trunk.split(',').map((part) => (/^\d+$/.test(part) ? Number(part) : part));
    return { mode: 'trunk', allowed, ...native };
  }
  if (options.native !== undefined) throw new CliError('USAGE', '--native goes with --trunk');
  return undefined;
}

/** One row a port. */
function portTable(ports: readonly PortInfo[]): string {
  if (ports.length === 0) return 'There are no ports; add one with `millrace port add NAME`.\n';
  return table(
    [
      { head: 'PORT' },
      { head: 'ID', align: 'right' },
      { head: 'KIND' },
      { head: 'DEVICE' },
      { head: 'VLAN' },
      { head: 'STATE' },
      { head: 'RECEIVED', align: 'right' },
      { head: 'SENT', align: 'right' },
      { head: 'DROPS', align: 'right' },
      { head: 'WHY' },
    ],
    ports.map((port) => [
      port.name,
      String(port.id),
      port.kind,
      port.device,
      vlanText(port.config.vlan),
      port.state,
      count(port.counters.receivedPackets),
      count(port.counters.transmittedPackets),
      count(port.drops + port.counters.receiveDropped),
      port.reason ?? offloadText(port) ?? '',
    ]),
  );
}

/** The VLAN policy in a few letters. */
function vlanText(vlan: unknown): string {
  if (typeof vlan !== 'object' || vlan === null) return '';
  const { mode, id, native, allowed, type, primary } = vlan as Record<string, unknown>;
  if (mode === 'access') return `access ${id}`;
  if (mode === 'private') return `${type} ${primary}`;
  const list = Array.isArray(allowed) ? allowed.join(',') : 'all';
  return native === undefined ? `trunk ${list}` : `trunk ${list} native ${native}`;
}

async function showPort(cli: Cli, name: string): Promise<void> {
  const port = await cli.call('port.show', { name });
  const { toYaml } = await loadConfigTools();
  cli.print(port, () => {
    const { counters } = port;
    const lines = pairs([
      ['port', `${port.name} (number ${port.id})`],
      ['kind', port.device === '' ? port.kind : `${port.kind}, ${port.device}`],
      ...(port.addedBy === null ? [] : [['added by', `the extension ${port.addedBy}`] as const]),
      ['state', port.reason === null ? port.state : `${port.state}: ${port.reason}`],
      ['MAC address', port.mac ?? '-'],
      ['lets in', port.allowedMacs === null ? 'any source address' : port.allowedMacs.join(', ') || 'nobody'],
      ['MTU', port.mtuBytes === null ? '-' : `${port.mtuBytes} bytes`],
      [
        'received',
        `${count(counters.receivedPackets)} packets, ${count(counters.receivedBytes)} bytes, ${count(counters.receiveDropped)} lost in the kernel`,
      ],
      [
        'sent',
        `${count(counters.transmittedPackets)} packets, ${count(counters.transmittedBytes)} bytes, ${count(counters.transmitDropped)} not sent`,
      ],
      ['dropped', `${count(port.drops)} packets`],
      ['offload', [port.offload?.hook ?? 'none', offloadText(port) ?? []].flat().join('; ')],
    ]);
    const bound = bindingsText(port.bindings);
    const drops = port.dropReasons.map((drop) => `  ${drop.reason}: ${count(drop.packets)} (${drop.text})\n`).join('');
    const settings = toYaml(port.config)
      .trimEnd()
      .split('\n')
      .map((line) => `  ${line}\n`)
      .join('');
    return `${lines}${drops}${aclText(port.aclCounts)}${bound}settings\n${settings}`;
  });
}

/** What rules of access control have matched, in the order in which they are tried. */
function aclText(counts: readonly AclCount[]): string {
  if (counts.length === 0) return '';
  const lines = counts.map(({ rule, packets, bytes }) => {
    const { direction, action, ...fields } = rule;
    const what = Object.entries(fields).map(([name, value]) => ` ${name}=${value}`);
    return `  ${direction} ${action}${what.join('')}: ${count(packets)} packets, ${count(bytes)} bytes\n`;
  });
  return `access control\n${lines.join('')}`;
}

/** The addresses that are bound to a port, one a line. */
function bindingsText(bindings: PortInfo['bindings']): string {
  if (bindings === null) return '';
  const lines = bindings.map(({ address, mac, origin, vlan, expiresInSeconds }) => {
    const of = mac === null ? '' : ` of ${mac}`;
    const domain = vlan === null || vlan === 0 ? '' : ` in VLAN ${vlan}`;
    const ends = expiresInSeconds === null ? '' : `, for ${count(expiresInSeconds)} s`;
    return `  ${address}${of}${domain} (${origin}${ends})\n`;
  });
  return `bound addresses\n${lines.length === 0 ? '  none\n' : lines.join('')}`;
}

/** The daemon runs in another folder: what is relative here is not there. */
function resolvePaths(settings: Record<string, unknown>): void {
  for (const key of ['read', 'write']) {
    const path = settings[key];
    if (typeof path === 'string') settings[key] = resolve(path);
  }
}

function withPolicyOptions(command: Command): Command {
  return command
    .option('--access <vlan>', 'access port of this VLAN: its frames are untagged')
    .option('--trunk <vlans>', 'trunk of these VLANs, such as 10,20-30, or all')
    .option('--native <vlan>', 'with --trunk: the VLAN of untagged frames')
    .option('--ovs-name <name>', 'the name under which Open vSwitch knows the port; empty to remove it');
}

/** `millrace port ...` */
export function portCommand(cli: Cli): Command {
  const port = new Command('port').description('add, remove, show and change ports');

  port
    .command('list', { isDefault: true })
    .alias('ls')
    .description('all ports')
    .action(async () => {
      const ports = await cli.call('port.list', {});
      cli.print(ports, () => portTable(ports));
    });

  port
    .command('show')
    .argument('<port>')
    .description('everything about one port')
    .action((name: string) => showPort(cli, name));

  withPolicyOptions(
    port
      .command('add')
      .argument('<port>', 'name of the port')
      .argument('[settings...]', 'more settings as KEY=VALUE, named as in millrace.yaml')
      .description('add a port')
      .option(
        '-k, --kind <kind>',
        'netdev (an interface that is there), tap (one that is made), pcap or memory',
        'netdev',
      )
      .option('-d, --device <interface>', "interface behind the port; the port's name when not given")
      .option('--wait', 'netdev: add it although the interface is not there, and attach when it appears')
      .option('--netns <namespace>', 'tap: move it into this network namespace')
      .option('--read <file>', 'pcap: file whose frames enter the switch')
      .option('--write <file>', 'pcap: file of the frames that leave through the port'),
  )
    .addHelpText(
      'after',
      `
Examples:
  millrace port add eth1
  millrace port add uplink --device eth0 --trunk all
  millrace port add web --device veth3 --access 10 security.allowMacSpoofing=false
  millrace port add vm1 --kind tap --netns blue addresses='[10.0.0.2/24]'
  millrace port add replay --kind pcap --read attack.pcapng --write answers.pcapng`,
    )
    .action(async (name: string, words: string[], options: AddOptions) => {
      const { parseSettings } = await loadConfigTools();
      const settings: Record<string, unknown> = { ...parseSettings(words), kind: options.kind };
      const vlan = vlanOf(options);
      if (vlan !== undefined) settings.vlan = vlan;
      if (options.ovsName !== undefined && options.ovsName !== '') settings.ovsName = options.ovsName;
      for (const key of ['device', 'wait', 'netns'] as const) {
        if (options[key] !== undefined) settings[key] = options[key];
      }
      for (const key of ['read', 'write'] as const) if (options[key] !== undefined) settings[key] = options[key];
      resolvePaths(settings);
      const added = await cli.call('port.add', { name, port: settings });
      cli.print(added, () => `Added port ${name}, ${stateText(added)}.\n${offloadNote(added)}`);
    });

  port
    .command('del')
    .alias('rm')
    .argument('<ports...>')
    .description('remove ports; a netdev is given back to the kernel')
    .action(async (names: string[]) => {
      // All or none: a name that is wrong is told before the first is removed.
      for (const name of names) await cli.call('port.show', { name });
      for (const name of names) await cli.call('port.del', { name });
      cli.print(names, () => `Removed port ${names.join(', ')}.\n`);
    });

  withPolicyOptions(
    port
      .command('set')
      .argument('<port>')
      .argument('[settings...]', 'KEY=VALUE, named as in millrace.yaml; KEY= removes a setting')
      .description('change settings of a port')
      .option('--no-vlan', 'no VLAN policy'),
  )
    .addHelpText(
      'after',
      `
Examples:
  millrace port set web --access 20
  millrace port set uplink --trunk 10,20-30 --native 1
  millrace port set web dhcpGuard=true security.allowMacSpoofing=false
  millrace port set web acl='[{action: deny, remoteIp: 10.0.0.0/8}]'
  millrace port set web acl=`,
    )
    .action(async (name: string, words: string[], options: PolicyOptions) => {
      const { parseSettings } = await loadConfigTools();
      const changes = parseSettings(words);
      const vlan = options.vlan === false ? null : vlanOf(options);
      if (vlan !== undefined) changes.vlan = vlan;
      if (options.ovsName !== undefined) changes.ovsName = options.ovsName === '' ? null : options.ovsName;
      if (Object.keys(changes).length === 0) {
        throw new CliError('USAGE', 'nothing to change was given', 'see `millrace port set --help`');
      }
      resolvePaths(changes);
      const changed = await cli.call('port.set', { name, changes });
      const kept =
        changed.addedBy === null
          ? ''
          : `The extension ${changed.addedBy} added it: its settings are kept while the daemon runs, and are not part of the configuration.\n`;
      cli.print(changed, () => `Changed port ${name}, ${stateText(changed)}.\n${offloadNote(changed)}${kept}`);
    });
  return port;
}

function stateText(port: PortInfo): string {
  return port.reason === null ? `which is ${port.state}` : `which is ${port.state}: ${port.reason}`;
}

/** Why flows of a port are not at XDP, though that was asked for; null when they are, or nobody asked. */
function offloadText({ config, offload }: PortInfo): string | null {
  return config.offload === 'xdp' ? (offload?.reason ?? null) : null;
}

function offloadNote(port: PortInfo): string {
  const text = offloadText(port);
  return text === null ? '' : `Note: ${text}\n`;
}
