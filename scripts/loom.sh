#!/bin/sh
# Model-checks the lock-free protocols: every interleaving up to a bound on preemptions.
# Builds apart from everything else, as the flag changes every crate; only the model checker itself is
# worth optimising, which takes longer than it saves with the others.
set -eu
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" exec cargo test --package twinstream --no-default-features --target-dir target/loom \
    --config profile.dev.package.loom.opt-level=3 --config profile.dev.package.generator.opt-level=3 \
    --config profile.dev.package.gemm-f32.opt-level=0 --config profile.dev.package.pulp.opt-level=0 \
    --config profile.dev.package.libjpeg-turbo-rs.opt-level=0 \
    --test loom_group --test loom_request --test loom_ring --test loom_room --test loom_ticket "$@"
