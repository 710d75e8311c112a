#!/usr/bin/env bash
# npm run soak: set up, build, and have everything come and go under traffic for as long as wanted: -- --minutes 60
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh test
export PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo 'millrace: the soak needs root: sudo npm run soak' >&2; exit 1; }
exec node node_modules/jiti/lib/jiti-cli.mjs test/soak/main.ts "$@"
