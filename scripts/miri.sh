#!/bin/sh
# Interprets the unit tests of the modules that call no C++ under Miri: scheduler, cost model, layer list.
# Needs a nightly Rust with Miri: rustup toolchain install nightly --component miri
set -eu
cd "$(dirname "$0")/.."
# Files are read by the tests of the model: isolation off.
MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}" exec cargo +nightly miri test --locked --package twinstream \
    --no-default-features --target-dir target/miri --lib sched:: model::network lower:: "$@"
