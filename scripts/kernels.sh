#!/bin/sh
# Compiles the CUDA kernels with the host compiler and runs them on the emulated device against scalar
# references: plain, then under AddressSanitizer and UndefinedBehaviorSanitizer, then with
# ThreadSanitizer looking for races between the threads of a block. Needs g++ alone.
# Arguments, both optional: random convolutions (fewer under sanitizers), seed.
set -eu
cd "$(dirname "$0")/../cuda"
random_len=${1:-60}
[ $# -gt 0 ] && shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compiler="${CXX:-g++} -std=c++17 -g -Wall -Wextra -Wpedantic -Wshadow -Werror -fno-strict-aliasing"

# run NAME DEVICE_FLAGS KERNEL_FLAGS RANDOM_LEN [SEED]
run() {
    echo "== $1"
    mkdir -p "$folder/$1"
    for source in fiber block memory ptx mma launch table; do
        $compiler $2 -c "emulator/$source.cpp" -o "$folder/$1/device_$source.o"
    done
    for source in *.cu sm*/*.cu; do
        $compiler $3 -x c++ -c "$source" -o "$folder/$1/kernel_$(basename "$source").o"
    done
    for source in tests/*.cpp; do
        $compiler $3 -c "$source" -o "$folder/$1/$(basename "$source" .cpp).o"
    done
    ${CXX:-g++} $3 "$folder/$1"/*.o -o "$folder/$1/tests" -pthread
    tests=$folder/$1/tests
    shift 3
    "$tests" "$@"
}

run plain -O2 -O2 "$random_len" "$@"
memory='-O1 -fsanitize=address,undefined -fno-sanitize-recover=all'
run memory "$memory" "$memory" "$((random_len / 4))" "$@"
# The emulator itself is left out: its own state is no memory of the device.
run races '-O1 -DTWINSTREAM_RACE_CHECK' '-O1 -DTWINSTREAM_RACE_CHECK -fsanitize=thread' \
    "$((random_len / 4))" "$@"
