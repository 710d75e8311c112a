#!/bin/sh
# Build the shim that connects Open vSwitch's programs to Millrace: native/build/<arch>/millrace-shim.so.
# Without a compiler it says so and changes nothing: a prebuilt file may be in its place.
set -e
here=$(cd "$(dirname "$0")" && pwd)
case "$(uname -m)" in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) arch=$(uname -m) ;;
esac
out="$here/build/$arch/millrace-shim.so"
for compiler in "${CC:-}" cc gcc clang; do
  if [ -n "$compiler" ] && command -v "$compiler" >/dev/null 2>&1; then
    mkdir -p "$(dirname "$out")"
    "$compiler" -std=gnu11 -O2 -g0 -Wall -Wextra -Werror -fPIC -shared -fvisibility=default -pthread \
      -o "$out.$$" "$here/millrace-shim.c" -ldl
    mv "$out.$$" "$out"
    echo "$out"
    exit 0
  fi
done
if [ -f "$out" ]; then
  echo "no C compiler: keeping $out" >&2
  exit 0
fi
echo "no C compiler (cc, gcc, clang), and no prebuilt $out" >&2
exit 1
