#!/usr/bin/env bash
# npm test: set up, then lint, types, layers, unused code, unit tests and namespace scenarios. The last line counts the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh test
export PATH=$PATH:/usr/sbin:/sbin
bin=node_modules/.bin
step() { printf '\n== %s\n' "$1"; shift; "$@"; }

step 'lint' $bin/biome check .
step 'types' $bin/tsc -p tsconfig.json --noEmit
step 'layers' $bin/depcruise --config .dependency-cruiser.cjs src
step 'unused code' $bin/knip
if [ "$(id -u)" = 0 ]; then
  step 'unit tests and scenarios' $bin/vitest run "$@"
else
  echo 'millrace: not root: the namespace scenarios are left out; run them with: sudo npm test'
  step 'unit tests' $bin/vitest run --project unit "$@"
fi
