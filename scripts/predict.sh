#!/bin/sh
# The network's predicted times on an H100 (docs/KERNELS.md): scripts/predict.sh [--write] [--rates FILE]
#
# Compiles the kernels that have a model, asks the program for layers and plans, and prints the table.
# Rates are scripts/sass_model/rates.json's unless FILE has others. --write keeps the simulated loops for
# scripts/gpu_report.py: after the kernels' loops or the rate of L2 have changed. TWINSTREAM is the
# program, with feature cuda, for a GPU or emulated [target/debug/twinstream]. Needs nvcc and cuobjdump:
# in PATH, or by scripts/cuda-toolkit.sh.
set -eu
cd "$(dirname "$0")/.."
program=${TWINSTREAM:-target/debug/twinstream}
toolkit=target/cuda-toolkit/bin
[ -x "$toolkit/nvcc" ] && PATH=$PWD/$toolkit:$PATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for source in cuda/sm80/conv.cu cuda/stem.cu; do
    nvcc -std=c++17 -arch=sm_90a -Icuda -cubin -o "$folder/$(basename "$source" .cu).cubin" "$source"
done
# No device: the plan is an H100's. Nor what was tuned.
export TWINSTREAM_EMULATED_DEVICES=0 XDG_CACHE_HOME="$folder"
"$program" inspect --json --size 224x224 >"$folder/layers"
for precision in f16 i8; do
    "$program" inspect --plan --json --size 224x224 --precision $precision >"$folder/plan-$precision"
done
python3 scripts/sass_model predict "$@" "$folder/layers" "$folder/plan-f16" "$folder/plan-i8" \
    "$folder"/*.cubin
