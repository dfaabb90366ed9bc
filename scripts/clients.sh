#!/bin/sh
# The clients that people use, from PyPI, against a server of this checkout:
# scripts/clients.sh [perf]
#
# tritonclient (gRPC, HTTP, both also asynchronous) and kserve (gRPC and REST) compare logits with the
# reference. With `perf` perf_analyzer measures instead; it is x86-64 and needs Debian's libb64-0d.
# TWINSTREAM names a command that was built already.
set -eu
cd "$(dirname "$0")/.."
folder=target/clients
packages='tritonclient[grpc,http]==2.73.0 kserve==0.21.0'
[ "${1:-}" != perf ] || packages='tritonclient[grpc,http]==2.51.0 nvidia-cuda-runtime-cu12==12.9.79'
if [ "$(cat $folder/packages 2>/dev/null)" != "$packages" ]; then
    rm -rf $folder
    python3 -m venv $folder
    # shellcheck disable=SC2086 # names are words
    $folder/bin/pip install --quiet --disable-pip-version-check $packages
    echo "$packages" >$folder/packages
fi
if [ -z "${TWINSTREAM:-}" ]; then
    cargo build --locked --release --package twinstream-cli --features serve
    TWINSTREAM=target/release/twinstream
fi
# Two packages that cannot be in one process.
for clients in ${1:-triton kserve}; do
    $folder/bin/python scripts/clients.py "$TWINSTREAM" "$clients"
done
