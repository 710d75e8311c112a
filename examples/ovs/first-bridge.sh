#!/bin/bash
# Two hosts on a bridge of Open vSwitch whose datapath is Millrace, in namespaces of their own: nothing of the machine is touched.
# Run as root: examples/ovs/first-bridge.sh
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
id=mrovs$$
# Open vSwitch's programs keep everything in the folder, and find each other there.
export OVS_RUNDIR=$work OVS_DBDIR=$work OVS_LOGDIR=$work MILLRACE_SOCKET=$work/millrace.sock
inside() { ip netns exec "$id" "$@"; }
millrace() { inside node "$here/bin/millrace.js" "$@"; }

finish() {
  millrace ovs stop || true
  millrace down || true
  for namespace in "$id" "$id-a" "$id-b"; do ip netns del "$namespace" || true; done
  rm -rf "$work"
}
trap finish EXIT

ip netns add "$id"
inside ip link set lo up
number=0
for host in a b; do
  number=$((number + 1))
  ip netns add "$id-$host"
  inside ip link add "to-$host" type veth peer name eth0 netns "$id-$host"
  inside ip link set "to-$host" up
  ip -n "$id-$host" link set eth0 up
  ip -n "$id-$host" address add "192.0.2.$number/24" dev eth0
done

millrace ovs start --pseudo-device "$work/netlink.sock"
inside ovs-vsctl add-br br0 -- add-port br0 to-a -- add-port br0 to-b
echo "--- a pings b"
ip netns exec "$id-a" ping -c 3 -i 0.2 192.0.2.2
echo "--- the flows that carried it, as Open vSwitch says"
millrace ovs exec -- ovs-dpctl dump-flows
echo "--- and as Millrace says"
millrace ovs dpctl dump-flows
echo "--- a rule: nothing but ARP and ICMP"
inside ovs-ofctl add-flow br0 "priority=10,arp,actions=NORMAL"
inside ovs-ofctl add-flow br0 "priority=10,icmp,actions=NORMAL"
inside ovs-ofctl add-flow br0 "priority=5,actions=drop"
ip netns exec "$id-a" ping -c 1 192.0.2.2
inside ovs-appctl ofproto/trace br0 in_port=to-a,tcp,nw_dst=192.0.2.2,tp_dst=80 | tail -3
