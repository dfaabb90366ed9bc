#!/bin/sh
# Runs the C++ ring's stress program under ThreadSanitizer, then under AddressSanitizer with leak and
# undefined-behaviour checks. Arguments, both optional: requests of each producer, seed.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for sanitizers in thread address,undefined; do
    echo "== -fsanitize=$sanitizers"
    "${CXX:-g++}" -std=c++17 -O1 -g -Wall -Wextra -Wpedantic -Werror -pthread \
        -fsanitize="$sanitizers" -fno-sanitize-recover=all -Icuda/ring \
        cuda/ring/ring.cpp cuda/ring/storage.cpp tests/stress_ring.cpp -o "$folder/stress_ring"
    "$folder/stress_ring" "$@"
done
