#!/bin/sh
# Compiles and runs the emulated device's self tests: plain, then under AddressSanitizer and
# UndefinedBehaviorSanitizer, then with ThreadSanitizer looking for races between emulated threads;
# at last programs of which it must find what is missing.
# Argument, optional: the seed of the random parts.
# shellcheck disable=SC2086 # flags are words
set -eu
cd "$(dirname "$0")/../cuda/emulator"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export compiler="${CXX:-g++} -std=c++17 -g -Wall -Wextra -Wpedantic -Wshadow -Werror -fno-strict-aliasing"

# compile NAME FLAGS SOURCES...: to $folder/NAME/, several at a time
compile() {
    mkdir -p "$folder/$1"
    name=$1 flags=$2
    shift 2
    # shellcheck disable=SC2016 # for the shell that compiles
    printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} sh -c \
        '$compiler $0 -c "$1" -o "$2/$(basename "$1" .cpp).o"' "$flags" {} "$folder/$name"
}

device=$(find . -maxdepth 1 -name '*.cpp' ! -name table.cpp)
# Those that are programs of their own, or part of one, are left out.
subjects=$(find tests -name '*.cpp' ! -name race.cpp ! -name stores.cpp ! -name accesses.cpp)
run() {
    echo "== $1"
    compile "$1" "$2" $device
    compile "$1-tests" "$3" $subjects
    ${CXX:-g++} $3 "$folder/$1"/*.o "$folder/$1-tests"/*.o -o "$folder/tests" -pthread
    shift 3
    "$folder/tests" "$@"
}

run plain -O2 -O2 "$@"
memory='-O1 -fsanitize=address,undefined -fno-sanitize-recover=all'
run memory "$memory" "$memory" "$@"
# The emulator itself is left out: its own state is no memory of the device.
run races '-O1 -DTWINSTREAM_RACE_CHECK' '-O1 -DTWINSTREAM_RACE_CHECK -fsanitize=thread' "$@"

echo '== races that must be found'
compile race '-O1 -DTWINSTREAM_RACE_CHECK -fsanitize=thread' tests/race.cpp
${CXX:-g++} -fsanitize=thread "$folder/races"/*.o "$folder/race"/*.o -o "$folder/race/race" -pthread
"$folder/race/race" none
for race in shared warp copy blocks; do
    status=0
    "$folder/race/race" "$race" >"$folder/report" 2>&1 || status=$?
    if [ "$status" -ne 66 ] || ! grep -q 'data race' "$folder/report"; then
        echo "race $race was not found" >&2
        exit 1
    fi
    echo "$race: found"
done

echo '== stores that no fence follows must be found'
# The compiler's calls before each store go to tests/accesses.cpp, not to ThreadSanitizer.
compile stores '-O1 -fsanitize=thread' tests/stores.cpp
compile stores -O1 tests/accesses.cpp
${CXX:-g++} "$folder/plain"/*.o "$folder/stores"/*.o -o "$folder/stores/stores" -pthread
"$folder/stores/stores" none
for store in shared product global reader; do
    if "$folder/stores/stores" "$store" >"$folder/report" ||
        ! grep -q 'fence.proxy.async' "$folder/report"; then
        echo "store $store was not found" >&2
        exit 1
    fi
    echo "$store: found"
done
