#!/bin/sh
# Model-checks the lock-free protocols: every interleaving up to a bound on preemptions.
# Builds apart from everything else, as the flag changes every crate.
set -eu
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" exec cargo test --no-default-features --target-dir target/loom \
    --test loom_ring --test loom_ticket "$@"
