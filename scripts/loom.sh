#!/bin/sh
# Model-checks the lock-free protocols: every interleaving up to a bound on preemptions.
# Builds apart from everything else, as the flag changes every crate; the model checker itself is worth
# optimising.
set -eu
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" exec cargo test --package twinstream --no-default-features --target-dir target/loom \
    --config profile.dev.package.loom.opt-level=3 --config profile.dev.package.generator.opt-level=3 \
    --test loom_ring --test loom_ticket "$@"
