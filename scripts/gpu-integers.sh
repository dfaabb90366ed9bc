#!/bin/sh
# The repository's network in 8-bit integers, as scripts/gpu.sh measures it: scripts/gpu-integers.sh
# [FOLDER]
#
# FOLDER (target/integers unless given) gets model.safetensors and config.json. Runs where the
# programs are built, and needs no GPU. A dozen images choose poor scales; neither times nor which
# bytes are right depend on them. TWINSTREAM is the program [target/release/twinstream].
set -eu
cd "$(dirname "$0")/.."
folder=${1:-target/integers}
mkdir -p "$folder"
cp models/resnet50-cifar10/config.json "$folder"
"${TWINSTREAM:-target/release/twinstream}" calibrate --images examples/images --force \
    --out "$folder/model.safetensors"
