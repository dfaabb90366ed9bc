#!/bin/sh
# Runs each fuzz target RUNS times, guided by coverage: scripts/fuzz.sh [RUNS [SEED [TARGET…]]]
#
# CI names a seed, so that what fails there fails again; without one, each call tries something new.
# Needs a stable Rust and a C++ compiler only: libFuzzer is compiled from its crate, and the flags below
# are those by which `cargo fuzz run --sanitizer none` instruments. What was found stays in fuzz/corpus,
# inputs that crash in fuzz/artifacts; `fuzz/target/…/release/TARGET FILE` runs one again.
set -eu
cd "$(dirname "$0")/.."
runs=${1:-100000}
seed=${2:-0}
if [ $# -gt 2 ]; then shift 2; else shift $#; fi
[ $# -gt 0 ] || set -- grpc http image weights

host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# Named, the target keeps those flags from build scripts and procedural macros.
cargo build --locked --manifest-path fuzz/Cargo.toml --release --target "$host"

for target; do
    case $target in
        image) seeds='tests/data/image tests/data/jpeg' max_len=16384 ;;
        grpc | http) seeds=fuzz/seeds/$target max_len=4096 ;;
        # All scales of a network in 8-bit integers have room.
        *) seeds=fuzz/seeds/$target max_len=262144 ;;
    esac
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    # shellcheck disable=SC2086 # several folders
    "fuzz/target/$host/release/$target" "fuzz/corpus/$target" $seeds \
        -runs="$runs" -seed="$seed" -timeout=20 -max_len="$max_len" -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/"
done
