#!/bin/sh
# deploy/ray/app.py on a cluster of two nodes on this machine, one of which is killed under load:
# scripts/ray.sh
#
# Ray comes from PyPI, 500 MB with what it needs, into target/ray; the Python package is built here.
set -eu
cd "$(dirname "$0")/.."
folder=target/ray
packages='ray[serve]==2.60.0'
if [ "$(cat $folder/packages 2>/dev/null)" != "$packages" ]; then
    rm -rf $folder
    python3 -m venv $folder
    # shellcheck disable=SC2086 # names are words
    $folder/bin/pip install --quiet --disable-pip-version-check $packages
    echo "$packages" >$folder/packages
fi
scripts/wheel.sh
$folder/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
    target/python/wheels/twinstream-*.whl
TWINSTREAM_WEIGHTS=$PWD/models/resnet50-cifar10/model.safetensors
PYTHONPATH=$PWD/deploy/ray RAY_DEDUP_LOGS=0 RAY_USAGE_STATS_ENABLED=0
export PYTHONPATH RAY_DEDUP_LOGS RAY_USAGE_STATS_ENABLED TWINSTREAM_WEIGHTS
$folder/bin/python scripts/ray_cluster.py
