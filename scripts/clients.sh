#!/bin/sh
# The clients that people use, from PyPI, against a server of this checkout:
# scripts/clients.sh [perf]
#
# tritonclient (gRPC, HTTP, both also asynchronous) and kserve (gRPC and REST) compare logits with the
# reference. With `perf` perf_analyzer measures instead; it is x86-64 and needs Debian's libb64-0d.
# TWINSTREAM names a command that was built already.
set -eu
cd "$(dirname "$0")/.."
scripts/clients-venv.sh "$@"
if [ -z "${TWINSTREAM:-}" ]; then
    cargo build --locked --release --package twinstream-cli --features serve
    TWINSTREAM=target/release/twinstream
fi
# Two packages that cannot be in one process.
for clients in ${1:-triton kserve}; do
    target/clients/bin/python scripts/clients.py "$TWINSTREAM" "$clients"
done
