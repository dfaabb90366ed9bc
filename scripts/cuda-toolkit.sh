#!/bin/sh
# Installs CUDA 13.0's compiler without root, from PyPI's wheels: scripts/cuda-toolkit.sh [DIR]
#
# DIR is target/cuda-toolkit unless given; build.rs looks there by itself. Brings nvcc, headers, static
# runtime, NVTX, cuobjdump and nvdisasm for scripts/cuda-gates.sh, and libclang for bindgen: about 400 MB.
# Needs python3 with pip, and a host compiler that CUDA 13.0 takes (g++ 6 to 15). Does nothing where all
# is there already. Prints the environment on stdout, so `eval "$(scripts/cuda-toolkit.sh)"` sets it.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-target/cuda-toolkit}

# Drivers 580 and up run what 13.0 compiles. The two disassemblers have no 13.0 wheel and read older code.
wheels='nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-nvtx==13.0.85
nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvdisasm==13.5.37 libclang==18.1.1'

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ "$(cat "$folder/installed" 2>/dev/null)" != "$wheels" ]; then
    command -v python3 >/dev/null || {
        echo "$0: python3 is not in PATH" >&2
        exit 1
    }
    python3 -m pip --version >/dev/null 2>&1 || {
        echo "$0: python3 has no pip" >&2
        exit 1
    }
    rm -rf "$folder/wheels" "$folder/installed"
    # shellcheck disable=SC2086 # one word a wheel
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
        --no-deps --target "$folder/wheels" $wheels >&2
    # Build scripts and nvcc itself look for lib64, as a system installation has it.
    ln -sfn lib "$folder/wheels/nvidia/cu13/lib64"
    for part in bin include lib lib64 nvvm; do
        ln -sfn "wheels/nvidia/cu13/$part" "$folder/$part"
    done
    ln -sfn wheels/clang/native "$folder/libclang"
    # Builds for the emulated device may have done without: cargo is to look again.
    touch build.rs
fi

check() { # check FILE WHAT
    [ -e "$folder/$1" ] || {
        echo "$0: $folder/$1 is missing ($2)" >&2
        exit 1
    }
}
check include/cuda.h 'driver header'
check include/nvtx3/nvToolsExt.h 'NVTX header'
check lib64/libcudart_static.a 'static runtime'
check libclang/libclang.so "bindgen's libclang"
"$folder/bin/nvcc" --version | grep -q 'release 13\.0,' || {
    echo "$0: nvcc is not 13.0" >&2
    exit 1
}
"$folder/bin/cuobjdump" --version >/dev/null
"$folder/bin/nvdisasm" --version >/dev/null
echo "$wheels" >"$folder/installed"

echo "export CUDA_PATH='$folder'"
echo "export LIBCLANG_PATH='$folder/libclang'"
# shellcheck disable=SC2016 # for the caller's shell
echo "export PATH='$folder/bin':\"\$PATH\""
