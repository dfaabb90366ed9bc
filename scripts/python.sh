#!/bin/bash
# Holds the Python package to its promises as its users meet it: builds the wheel, installs it into an
# empty environment, runs the example there, then the tests, and holds the stubs against the module:
# scripts/python.sh [CARGO OPTION...], such as --features cuda
#
# Everything lies below target/python. Test tools come from PyPI's wheels, in the version below.
set -euo pipefail
cd "$(dirname "$0")/.."
test_tools='pillow==13.0.0 pytest==9.2.0'
folder=$PWD/target/python
model=models/resnet50-cifar10/model.safetensors
export CARGO_TARGET_DIR=$folder PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

scripts/wheel.sh "$@"

echo '== example, in an empty environment'
rm -rf "$folder/empty"
python3 -m venv "$folder/empty"
python=$folder/empty/bin/python
"$python" -m pip install --quiet "$folder"/wheels/twinstream-*.whl
"$python" ffi/python/examples/classify.py $model examples/images/* | tee "$folder/classified"
grep -q 'cifar-cat.png: cat ' "$folder/classified"

echo '== tests'
# What the command answers is what the package is compared with.
cargo build --quiet --locked --release --package twinstream-cli "$@"
export TWINSTREAM=$folder/release/twinstream
# shellcheck disable=SC2086
"$python" -m pip install --quiet $test_tools
"$python" -m pytest --quiet -p no:cacheprovider ffi/python/tests

echo '== stubs'
"$folder/build/bin/mypy" --strict --python-executable "$python" --cache-dir "$folder/mypy" \
    -p twinstream
"$folder/build/bin/mypy" --strict --python-executable "$python" --cache-dir "$folder/mypy" \
    ffi/python/examples/classify.py
PYTHONPATH=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    "$folder/build/bin/stubtest" --ignore-disjoint-bases twinstream._twinstream

echo '== speed'
"$python" ffi/python/bench.py 0.3
echo '== Python package: ok'
