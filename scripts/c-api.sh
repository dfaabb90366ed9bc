#!/bin/bash
# Holds the C interface to its promises as its users meet it: installs it to a temporary prefix,
# builds the tests and the examples through pkg-config with the C and the C++ compiler against the
# shared and the static library, runs them all, and those in C again under valgrind, which must find no
# error and no leak. Options, such as --offline, go to cargo. Needs pkg-config and valgrind.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
for tool in pkg-config valgrind; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing: apt-get install $tool" >&2
        exit 1
    fi
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
model=models/resnet50-cifar10/model.safetensors

scripts/install-c.sh "$folder/prefix" "$@"
export PKG_CONFIG_PATH=$folder/prefix/lib/pkgconfig
export LD_LIBRARY_PATH=$folder/prefix/lib
read -ra flags <<<"$(pkg-config --cflags twinstream)"
read -ra shared <<<"$(pkg-config --libs twinstream)"
# What the static library needs is in Libs.private; the linker would prefer the shared one of the
# name, so the static one is given as a file.
read -ra static <<<"$(pkg-config --static --libs-only-l twinstream | sed 's/-ltwinstream//')"
static=("$folder/prefix/lib/libtwinstream.a" "${static[@]}")

# build LANGUAGE LINK SOURCE...: prints the program's path.
build() {
    local language=$1 link=$2 name libraries compiler
    shift 2
    name=$(basename "$1")
    name=$folder/${name%.*}-$language-$link
    [ "$link" = shared ] && libraries=("${shared[@]}") || libraries=("${static[@]}")
    case $language in
        c) compiler=("${CC:-gcc}" -std=c11 -x c) ;;
        c++) compiler=("${CXX:-g++}" -std=c++17 -x c++) ;;
    esac
    "${compiler[@]}" -O2 -g -Wall -Wextra -Werror -pedantic -D_GNU_SOURCE "${flags[@]}" "$@" \
        -x none "${libraries[@]}" -pthread -lm -o "$name"
    echo "$name"
}

# Runs a program under valgrind; whatever is not freed and nobody points to is an error. Threads take
# turns: without fair scheduling one that spins keeps the others from running, for minutes.
check_memory() {
    valgrind --quiet --error-exitcode=1 --suppressions=scripts/valgrind.supp --leak-check=full \
        --fair-sched=yes \
        --show-leak-kinds=definite,indirect,possible \
        --errors-for-leak-kinds=definite,indirect,possible "$@"
}

for language in c c++; do
    for link in shared static; do
        echo "== $language, $link library"
        "$(build $language $link ffi/tests/programs/header.c ffi/tests/programs/other_unit.c)"
        "$(build $language $link ffi/tests/programs/no_allocation.c)"
        for test in guards requests many scrape trace stress; do
            "$(build $language $link ffi/tests/programs/$test.c)"
        done
        classify=$(build $language $link ffi/examples/classify.c)
        epoll=$(build $language $link ffi/examples/epoll.c)
        bench=$(build $language $link ffi/examples/bench.c)
        "$classify" $model >"$folder/classified"
        [ "$(wc -l <"$folder/classified")" = 6 ]
        "$epoll" $model 50
        "$bench" 0.1
    done
done
for link in shared static; do
    echo "== valgrind, $link library"
    for test in guards requests many scrape trace 'stress 300' 'epoll null 50'; do
        read -ra arguments <<<"$test"
        check_memory "$folder/${arguments[0]}-c-$link" "${arguments[@]:1}"
    done
done
for link in shared static; do
    echo "== service, $link library"
    service=$(build c++ $link ffi/examples/service.cpp)
    # The slack is for machines that other work shares.
    "$service" $model 50 250 2
done
echo '== the network under valgrind'
check_memory "$(build c static ffi/tests/programs/network.c)" $model
echo '== CMake package'
if command -v cmake >/dev/null; then
    cmake -S ffi/examples -B "$folder/cmake" -DCMAKE_PREFIX_PATH="$folder/prefix" >"$folder/cmake.log" ||
        {
            cat "$folder/cmake.log" >&2
            exit 1
        }
    cmake --build "$folder/cmake" >/dev/null
    for program in classify classify_static; do
        "$folder/cmake/$program" $model ffi/examples/cat.ppm | sed -n 2p | grep -q cat
    done
else
    echo 'SKIPPED: cmake is missing: apt-get install cmake'
fi
echo '== C interface: ok'
