/**
 * A VLAN device for kernels without 8021q, which many of the suite's tests put at the other end of what they test:
 *
 *      jiti vlan-device.ts PARENT NAME PROTOCOL ID
 *
 * It is one end of a veth. What it sends comes in at the other end, where a program tags it and sends it out of the parent; what comes in at the parent with
 * that tag loses it there, and goes out of the other end. Both programs are filters, which stay when this process ends.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { at, attachClsact, loadProgram, ProgramBuilder, R1, R2, R6, SK_BUFF, TC } from '../../src/bpf/index.ts';

const PROTOCOLS: Readonly<Record<string, number>> = { '802.1q': 0x8100, '802.1ad': 0x88a8 };

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'inherit', 'inherit'] });
const of = (device: string, file: string) => readFileSync(`/sys/class/net/${device}/${file}`, 'utf8').trim();

/** As the kernel has it in its own words: in network order. */
function networkOrder(protocol: number): number {
  const isLittle = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  return isLittle ? ((protocol & 0xff) << 8) | (protocol >> 8) : protocol;
}

/** Tag what comes in, and send it out of another device. */
function push(protocol: number, id: number, to: number): ProgramBuilder {
  const b = new ProgramBuilder('vlan_push');
  b.mov(R6, R1);
  b.call('skb_vlan_push', R6, networkOrder(protocol), id);
  b.call('redirect', to, 0);
  b.exit();
  return b;
}

/** Take the tag off what comes in with it, and send it out of another device. */
function pop(protocol: number, id: number, to: number): ProgramBuilder {
  const b = new ProgramBuilder('vlan_pop');
  const next = b.label('next');
  b.mov(R6, R1);
  b.load(R2, 'u32', at(R6, SK_BUFF.vlanPresent));
  b.jumpIf(R2, '==', 0, next);
  b.load(R2, 'u32', at(R6, SK_BUFF.vlanProto));
  b.jumpIf(R2, '!=', networkOrder(protocol), next);
  b.load(R2, 'u32', at(R6, SK_BUFF.vlanTci));
  b.and(R2, 0xfff);
  b.jumpIf(R2, '!=', id, next);
  b.call('skb_vlan_pop', R6);
  b.call('redirect', to, 0);
  b.exit();
  b.place(next);
  b.return(TC.NEXT);
  return b;
}

function attach(code: ProgramBuilder, netdev: string): void {
  const program = loadProgram({ type: 'sched_cls', code });
  attachClsact({ program, netdev, direction: 'ingress' });
  program.close();
}

function makeDevice(parent: string, name: string, protocol: number, id: number): void {
  const other = `v${of(parent, 'ifindex')}.${id}`;
  ip('link', 'add', name, 'address', of(parent, 'address'), 'mtu', of(parent, 'mtu'), 'type', 'veth', 'peer', other);
  // Making it took longer than the kernel takes: the suite leaves its addresses no time for a test for duplicates.
  writeFileSync(`/proc/sys/net/ipv6/conf/${name}/accept_dad`, '0');
  // The other end is no host: it says nothing of its own.
  ip('link', 'set', other, 'addrgenmode', 'none', 'up');
  attach(push(protocol, id, Number(of(parent, 'ifindex'))), other);
  attach(pop(protocol, id, Number(of(other, 'ifindex'))), parent);
}

const [parent, name, protocol, id] = process.argv.slice(2);
makeDevice(parent, name, PROTOCOLS[protocol.toLowerCase()] ?? PROTOCOLS['802.1q'], Number(id));
