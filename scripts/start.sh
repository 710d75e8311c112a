#!/usr/bin/env bash
# npm start: set up, then the lab. Without root the lab runs in a user namespace of its own where the kernel allows that.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh start
export PATH=$PATH:/usr/sbin:/sbin
if [ "$(id -u)" != 0 ]; then
  if ! unshare --user --map-root-user --net --mount true 2>/dev/null; then
    echo 'millrace: not root, and this kernel allows no user namespaces; run as root: sudo npm start' >&2
    exit 1
  fi
  exec unshare --user --map-root-user --net --mount --fork --kill-child \
    sh -c 'mount -t tmpfs millrace-run /run && ip link set lo up && exec node dist/lab/main.js "$@"' lab "$@"
fi
exec node dist/lab/main.js "$@"
