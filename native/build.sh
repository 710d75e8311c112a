#!/bin/sh
# Build the shim that connects Open vSwitch's programs to Millrace: native/build/<arch>/millrace-shim.so.
# "build.sh prebuilt" puts it into native/prebuilt/<arch> instead, for a package that is to be published; for another processor
# than this one, name it and its compiler: ARCH=arm64 CC=aarch64-linux-gnu-gcc native/build.sh prebuilt
# Whoever loads the shim takes the one in build/, made on this machine, before that in prebuilt/. Without a compiler nothing is
# changed, and one of the two must be there.
set -e
here=$(cd "$(dirname "$0")" && pwd)
case "${ARCH:-$(uname -m)}" in
  x86_64 | x64) arch=x64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) arch=${ARCH:-$(uname -m)} ;;
esac
case "${1:-build}" in
  build | prebuilt) out="$here/${1:-build}/$arch/millrace-shim.so" ;;
  *)
    echo "usage: build.sh [build | prebuilt]" >&2
    exit 2
    ;;
esac
for compiler in "${CC:-}" cc gcc clang; do
  if [ -n "$compiler" ] && command -v "$compiler" >/dev/null 2>&1; then
    mkdir -p "$(dirname "$out")"
    "$compiler" -std=gnu11 -O2 -g0 -Wall -Wextra -Werror -fPIC -shared -fvisibility=default -pthread -s \
      -o "$out.$$" "$here/millrace-shim.c" -ldl
    mv "$out.$$" "$out"
    echo "$out"
    exit 0
  fi
done
for there in "$out" "$here/prebuilt/$arch/millrace-shim.so"; do
  if [ -f "$there" ]; then
    echo "no C compiler: keeping $there" >&2
    echo "$there"
    exit 0
  fi
done
echo "no C compiler (cc, gcc, clang), and no prebuilt shim for $arch" >&2
exit 1
