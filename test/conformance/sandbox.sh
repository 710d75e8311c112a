#!/usr/bin/env bash
# One test of Open vSwitch's suite, in namespaces that unshare has made for it: network, mounts, processes. This is their first process, so whatever the
# test starts, mounts and makes is gone when it ends or is killed.
# Usage: sandbox.sh FOLDER DRIVER NUMBER [CONFIGURATION]
#   FOLDER         of this run: bin/ with the programs that stand before those of the machine, atconfig and atlocal; what is said goes there
#   CONFIGURATION  of the daemon, when the test is to find Millrace where it looks for openvswitch.ko
set -eu
folder=$1 driver=$2 number=$3 configuration=${4:-}
export PATH="$folder/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
unset LD_PRELOAD MILLRACE_SOCKET MILLRACE_OVS_SOCKET OVS_RUNDIR OVS_DBDIR OVS_LOGDIR OVS_SYSCONFDIR OVS_PKGDATADIR

mount -t tmpfs sandbox /run
mkdir /run/netns
mount -t sysfs sandbox /sys
mount -t bpf sandbox /sys/fs/bpf
ip link set lo up

if [ -n "$configuration" ]; then
  # The suite asks this file whether there are time-out policies. Here they are the datapath's, whatever the kernel has.
  if [ -d /boot ]; then
    mount -t tmpfs sandbox /boot
    echo CONFIG_NF_CONNTRACK_TIMEOUT=y > "/boot/config-$(uname -r)"
  fi
  millrace up --daemon -f "$configuration" --log-file "$folder/daemon.log" </dev/null >"$folder/daemon-start.log" 2>&1 ||
    { echo 'not started' > "$folder/daemon"; exit 1; }
fi

bash "$driver" -C "$folder" "AUTOTEST_PATH=$PATH" "$number" </dev/null >"$folder/said" 2>&1 || true

if [ -n "$configuration" ]; then
  ended=0
  millrace --json down >"$folder/daemon-end.log" 2>&1 || ended=$?
  if [ $ended = 3 ] || grep -q '"pid": *null' "$folder/daemon-end.log"; then
    echo 'ended before the test' > "$folder/daemon"
  elif [ $ended != 0 ]; then
    echo 'not stopped by millrace down' > "$folder/daemon"
  fi
fi
