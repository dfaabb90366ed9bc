#!/bin/sh
# What is in deploy/, with servers of this checkout: scripts/scale.sh [compare]
#
# Envoy, from PyPI, in front of several servers, by deploy/envoy/envoy.yaml: logits through it, then load
# while servers end, die, hang, return and have no room (scale.py). The other files, by what they speak
# of (deploy.py), which takes Prometheus' promtool. With `compare` it measures two ways of choosing a server instead.
# TWINSTREAM names a command that was built already.
set -eu
cd "$(dirname "$0")/.."
scripts/clients-venv.sh
if [ -z "${TWINSTREAM:-}" ]; then
    cargo build --locked --release --package twinstream-cli --features serve
    TWINSTREAM=target/release/twinstream
fi
if [ "${1:-}" = compare ]; then
    exec target/clients/bin/python scripts/scale_compare.py "$TWINSTREAM"
fi
target/clients/bin/python scripts/deploy.py "$TWINSTREAM"
target/clients/bin/python scripts/scale.py "$TWINSTREAM"
