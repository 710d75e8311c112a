#!/usr/bin/env bash
# npm run conformance: set up, then Open vSwitch's own system tests against Millrace, and the comparison with docs/conformance.md: -- --help
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh conformance
export PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo 'millrace: the conformance tests need root: sudo npm run conformance' >&2; exit 1; }
exec node node_modules/jiti/lib/jiti-cli.mjs test/conformance/main.ts "$@"
