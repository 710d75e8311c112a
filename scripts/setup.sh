#!/usr/bin/env bash
# Installs what is missing for one purpose and builds: node modules, Debian packages, dist/.
# Usage: setup.sh start|test|bench|conformance
# Says what it does only when there is something to do; ends with a clear sentence when it cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-start}

fail() { printf 'millrace: %s\n' "$1" >&2; exit 1; }

command -v node >/dev/null || fail 'Node.js is missing; install version 20.19 or newer.'
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
  fail "Node.js $(node --version) is too old; install version 20.19 or newer."

# --- Debian packages: command -> package -------------------------------------------------------------------------
needed=(ip:iproute2 ping:iputils-ping iperf3:iperf3)
case $purpose in
  test) needed+=(nft:nftables tcpdump:tcpdump tshark:tshark ethtool:ethtool python3:python3 ovs-vswitchd:openvswitch-switch cc:gcc) ;;
  bench) needed+=(ethtool:ethtool sysctl:procps nft:nftables conntrack:conntrack sockperf:sockperf ovs-vswitchd:openvswitch-switch cc:gcc) ;;
  conformance) needed+=(ovs-vswitchd:openvswitch-switch cc:gcc) ;;
esac
# Open vSwitch's own system tests, and the programs and modules that they use; `npm test` runs a few of them.
suite=(nc:netcat-openbsd netstat:net-tools lftp:lftp wget:wget curl:curl tcpdump:tcpdump ethtool:ethtool iptables:iptables python3:python3)
[ -f /usr/src/openvswitch/openvswitch.tar.gz ] || suite+=(missing-suite:openvswitch-source)
[ -d /usr/lib/python3/dist-packages/pyftpdlib ] || suite+=(missing-ftp-server:python3-pyftpdlib)
[ "$purpose" != conformance ] || needed+=("${suite[@]}")
[ "$purpose" = start ] || [ -f /usr/include/stdio.h ] || needed+=(missing-headers:libc6-dev)
PATH=$PATH:/usr/sbin:/sbin
find_missing() {
  missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
}
find_missing "${needed[@]}"
if [ "$(id -u)" = 0 ]; then run=(); else run=(sudo -n); fi
apt=("${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || fail "install these first, by your system's own means: ${missing[*]}"
  "${run[@]}" true 2>/dev/null ||
    fail "these Debian packages are missing: ${missing[*]}; run as root once, or: apt-get install ${missing[*]}"
  printf 'millrace: installing Debian packages: %s\n' "${missing[*]}"
  apt_log=$(mktemp)
  "${apt[@]}" update >"$apt_log" 2>&1 </dev/null || { tail -5 "$apt_log" >&2; fail 'apt-get update failed.'; }
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >>"$apt_log" 2>&1 </dev/null || { tail -15 "$apt_log" >&2; fail 'apt-get install failed.'; }
  rm -f "$apt_log"
fi

# --- Open vSwitch's own system tests beside the others: where they cannot be had, `npm test` says so and goes on -----
find_missing "${suite[@]}"
if [ "$purpose" = test ] && [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null && "${run[@]}" true 2>/dev/null; then
  printf "millrace: installing Debian packages for Open vSwitch's own tests: %s\n" "${missing[*]}"
  { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 </dev/null ||
    echo "millrace: they could not be installed; those tests will be skipped"
fi

# --- OVS-DPDK, one of the bench's peers: where it cannot be had, the bench says so and goes on ---------------------
# Its drivers are packages of their own, named after the version of DPDK. Which ovs-vswitchd the machine runs stays as it was.
if [ "$purpose" = bench ] && [ ! -x /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk ] &&
  command -v apt-get >/dev/null && "${run[@]}" true 2>/dev/null; then
  abi=$(apt-cache depends openvswitch-switch-dpdk 2>/dev/null | sed -n 's/.*librte-eal\([0-9.]*\).*/\1/p' | head -1)
  chosen=$(readlink /etc/alternatives/ovs-vswitchd || true)
  if [ -n "$abi" ]; then
    echo 'millrace: installing OVS-DPDK to measure against'
    "${apt[@]}" install -y --no-install-recommends openvswitch-switch-dpdk "librte-net-af-xdp$abi" "librte-mempool-ring$abi" \
      >/dev/null 2>&1 </dev/null || echo 'millrace: OVS-DPDK could not be installed; it will not be measured'
  fi
  if [ -n "$chosen" ] && [ "$(readlink /etc/alternatives/ovs-vswitchd)" != "$chosen" ]; then
    "${run[@]}" update-alternatives --set ovs-vswitchd "$chosen" >/dev/null
  fi
fi

# --- node modules ------------------------------------------------------------------------------------------------
stamp=node_modules/.millrace-lock
if ! cmp -s package-lock.json "$stamp"; then
  echo 'millrace: installing node modules'
  # Not `npm ci`: it refuses a lock file that was made where a registry has not every platform's optional packages.
  npm install --no-save --no-audit --no-fund --loglevel=error </dev/null
  cp package-lock.json "$stamp"
fi

# --- build ---------------------------------------------------------------------------------------------------------
if [ ! -f dist/.built ] || [ -n "$(find src tsconfig*.json package-lock.json -newer dist/.built -print -quit)" ]; then
  [ -d dist ] || echo 'millrace: building'
  node_modules/.bin/tsc -p tsconfig.build.json
  node scripts/remove-stale.mjs
  touch dist/.built
fi

# --- the shim for Open vSwitch's programs: needs a compiler; all else works without --------------------------------
shim_stamp=native/build/.built
if command -v cc >/dev/null && { [ ! -f "$shim_stamp" ] || [ native/millrace-shim.c -nt "$shim_stamp" ]; }; then
  sh native/build.sh >/dev/null && touch "$shim_stamp"
fi
