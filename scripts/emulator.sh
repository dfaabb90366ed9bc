#!/bin/sh
# Compiles and runs the emulated device's self tests: plain, then under AddressSanitizer and
# UndefinedBehaviorSanitizer, then with ThreadSanitizer looking for races between emulated threads.
# Argument, optional: the seed of the random parts.
# shellcheck disable=SC2086 # flags are words
set -eu
cd "$(dirname "$0")/../cuda/emulator"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compiler="${CXX:-g++} -std=c++17 -g -Wall -Wextra -Wpedantic -Wshadow -Werror -fno-strict-aliasing"

# compile NAME FLAGS SOURCES...: to $folder/NAME/
compile() {
    mkdir -p "$folder/$1"
    name=$1 flags=$2
    shift 2
    for source; do
        $compiler $flags -c "$source" -o "$folder/$name/$(basename "$source" .cpp).o"
    done
}

device=$(find . -maxdepth 1 -name '*.cpp' ! -name table.cpp)
subjects=$(find tests -name '*.cpp' ! -name race.cpp ! -name accesses.cpp)
run() {
    echo "== $1"
    compile "$1" "$2" $device
    compile "$1" "$3" $subjects
    ${CXX:-g++} $3 "$folder/$1"/*.o -o "$folder/$1/tests" -pthread
    shift 3
    "$folder/$name/tests" "$@"
}

run plain -O2 -O2 "$@"
memory='-O1 -fsanitize=address,undefined -fno-sanitize-recover=all'
run memory "$memory" "$memory" "$@"
# The emulator itself is left out: its own state is no memory of the device.
run races '-O1 -DTWINSTREAM_RACE_CHECK' '-O1 -DTWINSTREAM_RACE_CHECK -fsanitize=thread' "$@"

echo '== races that must be found'
races="$folder/races"
for source in $subjects; do
    rm "$races/$(basename "$source" .cpp).o"
done
compile races '-O1 -DTWINSTREAM_RACE_CHECK -fsanitize=thread' tests/race.cpp
${CXX:-g++} -fsanitize=thread "$races"/*.o -o "$races/race" -pthread
"$races/race" none
for race in shared warp copy blocks; do
    status=0
    "$races/race" "$race" >"$races/report" 2>&1 || status=$?
    if [ "$status" -ne 66 ] || ! grep -q 'data race' "$races/report"; then
        echo "race $race was not found" >&2
        exit 1
    fi
    echo "$race: found"
done
