#!/bin/sh
# Builds the probes of cuda/probes into DIR: scripts/cuda-probes.sh [DIR], target/probes unless given.
# They are programs of their own (static runtime), for a machine with a GPU; each prints one JSON
# object a result. Needs nvcc: in PATH, or by scripts/cuda-toolkit.sh.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-target/probes}
toolkit=target/cuda-toolkit/bin
[ -x "$toolkit/nvcc" ] && PATH=$PWD/$toolkit:$PATH
command -v nvcc >/dev/null || {
    echo "$0: no nvcc; see scripts/cuda-toolkit.sh" >&2
    exit 1
}
mkdir -p "$folder"
for source in cuda/probes/*.cu; do
    nvcc -std=c++17 -O2 -Werror all-warnings -cudart static \
        -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
        -o "$folder/$(basename "$source" .cu)" "$source"
    echo "$folder/$(basename "$source" .cu)"
done
