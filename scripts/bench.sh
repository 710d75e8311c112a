#!/usr/bin/env bash
# npm run bench: set up with the peers that Millrace is measured against, compile the benchmarks, run them.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh bench
export PATH=$PATH:/usr/sbin:/sbin
node_modules/.bin/tsc -p tsconfig.bench.json
[ "$(id -u)" = 0 ] || { echo 'millrace: the benchmarks need root: sudo npm run bench' >&2; exit 1; }
exec node dist-bench/bench/main.js "$@"
