#!/bin/bash
# Builds the Python package's wheel into target/python/wheels: scripts/wheel.sh [CARGO OPTION...]
#
# Build tools come from PyPI's wheels, in the versions below, into target/python/build.
set -euo pipefail
cd "$(dirname "$0")/.."
tools='maturin==1.16.0 mypy==2.4.1'
folder=$PWD/target/python
export CARGO_TARGET_DIR=$folder PIP_DISABLE_PIP_VERSION_CHECK=1

if [ "$(cat "$folder/tools" 2>/dev/null)" != "$tools" ]; then
    rm -rf "$folder/build"
    python3 -m venv "$folder/build"
    # shellcheck disable=SC2086 # names are words
    "$folder/build/bin/pip" install --quiet $tools
    echo "$tools" >"$folder/tools"
fi
echo '== wheel'
rm -rf "$folder/wheels"
"$folder/build/bin/maturin" build --quiet --release --locked --auditwheel skip \
    --manifest-path ffi/python/Cargo.toml --out "$folder/wheels" "$@"
ls "$folder/wheels"
