#!/bin/sh
# Installs the C interface: header, shared and static library, pkg-config file, CMake package.
#
#     scripts/install-c.sh PREFIX [CARGO OPTION ...]
#
# Builds in release mode; options such as `--features cuda` go to cargo. With
# DESTDIR, files go below that folder, for packages; PREFIX is still what programs will see.
set -eu
if [ $# -lt 1 ]; then
    echo "usage: $0 PREFIX [CARGO OPTION ...]" >&2
    exit 2
fi
prefix=$1
shift
case $prefix in
    /*) ;;
    *) prefix=$PWD/$prefix ;;
esac
cd "$(dirname "$0")/.."

package=$(cargo metadata --format-version 1 --no-deps)
target=$(echo "$package" | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
version=$(echo "$package" | sed 's/.*"name":"twinstream","version":"\([^"]*\)".*/\1/')
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo rustc --locked --release --package twinstream-capi --lib --crate-type cdylib,staticlib "$@" -- \
    --print native-static-libs 2>"$log" || {
    cat "$log" >&2
    exit 1
}
# With feature cuda the crate `cust` asks for the driver too, which the library finds by itself when it
# runs (cuda/driver/loader.cpp): users need not have it.
native_libs=$(sed -n 's/.*native-static-libs: //p' "$log" | tail -n 1 | sed 's/-lcuda //')
if [ -z "$native_libs" ]; then
    cat "$log" >&2
    echo 'the compiler did not say what the static library needs' >&2
    exit 1
fi

root=${DESTDIR:-}$prefix
mkdir -p "$root/include" "$root/lib/pkgconfig" "$root/lib/cmake/Twinstream"
install -m 644 ffi/twinstream.h "$root/include/"
install -m 644 "$target/release/libtwinstream_capi.a" "$root/lib/libtwinstream.a"
# The linker finds the plain name, programs ask for the SONAME, the file has the whole version.
soname=libtwinstream.so.${version%.*}
install -m 755 "$target/release/libtwinstream_capi.so" "$root/lib/libtwinstream.so.$version"
ln -sf "libtwinstream.so.$version" "$root/lib/$soname"
ln -sf "$soname" "$root/lib/libtwinstream.so"
cmake_libs=$(echo "$native_libs" | sed 's/ /;/g')
for file in TwinstreamConfig.cmake TwinstreamConfigVersion.cmake; do
    sed -e "s|@VERSION@|$version|" -e "s|@SONAME@|$soname|" -e "s|@COMPATIBLE@|${version%.*}|" \
        -e "s|@NATIVE_LIBS@|$cmake_libs|" "ffi/$file.in" >"$root/lib/cmake/Twinstream/$file"
done
sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" -e "s|@NATIVE_LIBS@|$native_libs|" \
    ffi/twinstream.pc.in >"$root/lib/pkgconfig/twinstream.pc"
echo "installed twinstream $version to $root"
# The loader keeps a list of what is in its folders.
if [ -z "${DESTDIR:-}" ] && [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then
    ldconfig
else
    echo 'where the loader does not look by itself: ldconfig as root, LD_LIBRARY_PATH, or link with' \
        "-Wl,-rpath,$prefix/lib"
fi
