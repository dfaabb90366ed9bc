#!/bin/bash
# The backend for Triton Inference Server in a real one, from PyPI: scripts/triton.sh [perf]
#
# scripts/triton.py says what is held there. With `perf` perf_analyzer measures instead, beside
# `twinstream serve` and ONNX Runtime in Triton; it is x86-64 and needs Debian's libb64-0d.
# TWINSTREAM_TRITON names a backend that was built already. All lies below target/triton.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/target/triton
server='nvidia-pytriton==0.5.14'
packages='tritonclient[grpc,http]==2.51.0'
[ "${1:-}" != perf ] ||
    packages+=' nvidia-cuda-runtime-cu12==12.9.79 numpy==1.26.4 onnx==1.22.0
        onnxruntime==1.32.0 safetensors==0.8.0'
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

mkdir -p "$folder"
if [ "$(cat "$folder/packages${1:-}" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$folder/python${1:-}"
    python3 -m venv "$folder/python${1:-}"
    # shellcheck disable=SC2086 # names are words
    "$folder/python${1:-}/bin/pip" install --quiet $packages
    echo "$packages" >"$folder/packages${1:-}"
fi
python=$folder/python${1:-}/bin/python
# The wheel holds a server; what it asks of Python is not needed for that.
if [ "$(cat "$folder/server/version" 2>/dev/null)" != "$server" ]; then
    rm -rf "$folder/server"
    "$python" -m pip download --quiet --no-deps --dest "$folder/server" "$server"
    "$python" -m zipfile -e "$folder"/server/*.whl "$folder/server"
    rm "$folder"/server/*.whl
    chmod -R u+x "$folder"/server/pytriton/tritonserver
    echo "$server" >"$folder/server/version"
fi

if [ -z "${TWINSTREAM_TRITON:-}" ]; then
    cargo build --locked --release --package twinstream-triton
    TWINSTREAM_TRITON=target/release/libtriton_twinstream.so
fi
mkdir -p "$folder/backends/twinstream"
cp "$TWINSTREAM_TRITON" "$folder/backends/twinstream/"
echo '== exports'
exports=$(nm -D --defined-only "$TWINSTREAM_TRITON" | sed 's/.* //')
echo "$exports"
if ! grep -q '^TRITONBACKEND_ModelInstanceExecute$' <<<"$exports" ||
    grep -v '^TRITONBACKEND_' <<<"$exports"; then
    echo 'the backend exports what the server does not look for, or lacks what it does' >&2
    exit 1
fi
if [ "${1:-}" = perf ]; then
    cargo build --locked --release --package twinstream-cli --features serve
    exec "$python" scripts/triton_perf.py "$folder" target/release/twinstream
fi
echo '== server'
"$python" scripts/triton.py "$folder"
