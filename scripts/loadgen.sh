#!/bin/bash
# MLPerf's LoadGen, a real one, against the engine, from C++ (ffi/examples/loadgen.cpp) and from Python
# (ffi/python/examples/loadgen.py): scripts/loadgen.sh [full | rates]
#
# Without an argument: short runs of each scenario, which must be VALID; accuracy, which must be
# PyTorch's, and must not be where the images are in another order; failures, which must end the run.
# `full`: as MLPerf's rules want, 10 minutes a run, or DURATION_MS; takes SERVER_QPS, OFFLINE_QPS,
# SINGLE_MS and MULTI_MS for this machine's network. `rates`: the highest rates of VALID Server runs on
# an engine that computes nothing.
#
# LoadGen comes from PyPI, its sources for C++ and its wheel for Python; all lies below target/loadgen.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
mode=${1:-short}
version=6.0.17
folder=$PWD/target/loadgen
weights=models/resnet50-cifar10/model.safetensors
python=$folder/venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

# LoadGen as a library and a folder of headers, once.
build_loadgen() {
    rm -rf "$folder"
    python3 -m venv "$folder/venv"
    "$python" -m pip install --quiet "mlcommons-loadgen==$version" numpy
    "$python" -m pip download --quiet --no-deps --no-binary :all: "mlcommons-loadgen==$version" \
        --dest "$folder"
    tar -xzf "$folder"/mlcommons_loadgen-$version.tar.gz -C "$folder"
    mv "$folder/mlcommons_loadgen-$version" "$folder/source"
    local sources=(early_stopping issue_query_controller loadgen logging results
        test_settings_internal utils version generated/version_generated)
    (
        cd "$folder/source"
        printf '%s.cc\n' "${sources[@]}" | xargs -P 2 -I{} "${CXX:-g++}" -std=c++17 -O2 -I. -c {}
        ar rcs libmlperf_loadgen.a ./*.o
    )
    echo "$version" >"$folder/version"
}

echo '== build'
[ "$(cat "$folder/version" 2>/dev/null)" = "$version" ] || build_loadgen
scripts/install-c.sh "$folder/prefix"
export PKG_CONFIG_PATH=$folder/prefix/lib/pkgconfig LD_LIBRARY_PATH=$folder/prefix/lib
# shellcheck disable=SC2046 # flags are words
"${CXX:-g++}" -std=c++17 -O2 -Wall -Wextra -Werror -pedantic ffi/examples/loadgen.cpp \
    -isystem "$folder/source" "$folder/source/libmlperf_loadgen.a" \
    $(pkg-config --cflags --libs twinstream) -pthread -o "$folder/loadgen"
"$python" -m pip install --quiet --no-deps --force-reinstall ./ffi/python \
    -C build-args='--locked --auditwheel skip'

python3 scripts/loadgen.py dataset-of-tests tests/data/cifar-reference.safetensors \
    "$folder/200" >"$folder/200.txt"
largest=200
if [ -f ../shared/data/reference.safetensors ]; then
    largest=1000
    python3 scripts/loadgen.py dataset-of-tests ../shared/data/reference.safetensors \
        "$folder/1000" >"$folder/1000.txt"
else
    echo 'SKIPPED: no ../shared/data: accuracy on 200 images in place of 1,000'
fi

# under_test LANGUAGE OPTION...: runs the system under test, with its logs in $folder/out.
under_test() {
    local language=$1 program=("$folder/loadgen")
    shift
    [ "$language" = c++ ] || program=("$python" ffi/python/examples/loadgen.py)
    rm -rf "$folder/out"
    "${program[@]}" --out "$folder/out" "$@" >"$folder/run.txt" 2>&1
}

# The options of a run on the network.
on_cpu() { echo "--backend cpu --weights $weights --dataset $folder/${1:-$largest}"; }

# valid LANGUAGE OPTION...: the run must be VALID; prints what it reached.
valid() {
    local summary=$folder/out/mlperf_log_summary.txt
    echo "-- $*"
    if ! under_test "$@" || ! grep -q '^Result is : VALID' "$summary"; then
        cat "$folder/run.txt" >&2
        return 1
    fi
    grep -E "^(not by MLPerf's rules|Result is)" "$folder/run.txt"
    grep -E '^(Samples per second|Completed samples|[59]0.00 perc|99.00 perc)' "$summary"
    for log in summary.txt detail.txt accuracy.json; do
        [ -f "$folder/out/mlperf_log_$log" ]
    done
}

# accuracy IMAGES LANGUAGE OPTION...: top-1 on a data set.
accuracy() {
    local images=$1
    shift
    # shellcheck disable=SC2046 # options are words
    under_test "$@" --mode accuracy $(on_cpu "$images") || {
        cat "$folder/run.txt" >&2
        return 1
    }
    python3 scripts/loadgen.py accuracy "$folder/out/mlperf_log_accuracy.json" "$folder/$images" \
        "$(sed -n 's/^top-1.*(\(.*\) %)/\1/p' "$folder/$images.txt")"
}

# exact IMAGES LANGUAGE OPTION...: top-1 must be PyTorch's.
exact() {
    local found
    found=$(accuracy "$@")
    echo "-- accuracy $*: $found"
    grep -qxF "$found" "$folder/$1.txt"
}

# inaccurate IMAGES LANGUAGE OPTION...: top-1 must not be near PyTorch's.
inaccurate() {
    local status=0
    accuracy "$@" >"$folder/verdict.txt" 2>&1 || status=$?
    echo "-- accuracy $*: $(tail -n 1 "$folder/verdict.txt")"
    [ "$status" -eq 1 ] && grep -q '^top-1' "$folder/verdict.txt"
}

# fails STATUS TEXT LANGUAGE OPTION...: the run must end so, and leave no result.
fails() {
    local status=0 expected=$1 text=$2
    shift 2
    under_test "$@" || status=$?
    if [ "$status" -ne "$expected" ] || ! grep -qF -e "$text" "$folder/run.txt" ||
        grep -qs '^Result is' "$folder/out/mlperf_log_summary.txt"; then
        echo "expected status $expected and '$text', got $status and" >&2
        cat "$folder/run.txt" >&2
        return 1
    fi
    echo "-- $1 fails as it must: $(grep -F -e "$text" "$folder/run.txt" | cut -c 1-110)"
}

# What must not pass: images in another order, half an image, a request without an answer.
prepare_failures() {
    local name image_bytes=3072
    for name in wrong cut; do
        mkdir -p "$folder/$name"
        cp "$folder/200/val_map.txt" "$folder/$name"
        cp "$folder/200.txt" "$folder/$name.txt"
    done
    tail -c +$((image_bytes + 1)) "$folder/200/images.rgb" >"$folder/wrong/images.rgb"
    head -c $image_bytes "$folder/200/images.rgb" >>"$folder/wrong/images.rgb"
    head -c 10000 "$folder/200/images.rgb" >"$folder/cut/images.rgb"
    # shellcheck disable=SC2046
    "${CC:-gcc}" -std=c11 -Wall -Wextra -Werror -shared -fPIC $(pkg-config --cflags twinstream) \
        ffi/tests/programs/failing.c -o "$folder/failing.so"
    mkdir -p "$folder/failing"
    cat >"$folder/failing/sitecustomize.py" <<'EOF'
import itertools
import twinstream
numbers, submit = itertools.count(), twinstream.Engine.submit_nowait
twinstream.Engine.submit_nowait = lambda engine, image: submit(
    engine, image, deadline=0.0 if next(numbers) == 500 else None
)
EOF
}

# Latency bounds and rates are for machines that other work shares: what is held here is the
# interplay, not the speed. LoadGen prepares so many samples as the targets say, so Offline's must be
# above what is reached, and the latencies below.
run_short() {
    local -A offline_qps=([c++]=2000000 [python]=600000)
    local language network null=(--backend null --min-duration 1000)
    read -ra network <<<"$(on_cpu) --min-duration 1000"
    for language in c++ python; do
        echo "== $language, performance"
        valid $language --scenario Server --target-qps 2000 --target-latency 60000 "${null[@]}"
        valid $language --scenario Offline --target-qps "${offline_qps[$language]}" "${null[@]}"
        valid $language --scenario SingleStream --target-latency 0.002 "${null[@]}"
        valid $language --scenario MultiStream --target-latency 0.004 "${null[@]}"
        valid $language --scenario Server --target-qps 300 --target-latency 60000 "${network[@]}" \
            --min-query-count 600
        valid $language --scenario Offline --target-qps 20000 "${network[@]}" \
            --min-duration 100 --min-query-count 200
        valid $language --scenario SingleStream --target-latency 0.1 "${network[@]}"
        echo "== $language, accuracy"
        exact "$largest" $language --scenario Offline
        exact 200 $language --scenario Server --target-qps 100
        exact 200 $language --scenario SingleStream
        exact 200 $language --scenario MultiStream
        echo "== $language, failures"
        inaccurate wrong $language --scenario Offline
        fails 1 'every slot is in use' $language --scenario Server --target-qps 20000 "${network[@]}"
        fails 1 'no whole number of images' $language --scenario Offline \
            "${network[@]/#"$folder/$largest"/"$folder/cut"}"
        fails 1 "$folder/none" $language --scenario Offline \
            "${network[@]/#"$weights"/"$folder/none"}"
        fails 2 'a number above 0' $language --scenario Server --target-qps -5 --backend null
        fails 2 --dataset $language --scenario Offline --mode accuracy --backend null
    done
    local failing=(--scenario Server --target-qps 5000 "${null[@]}")
    FAILING_REQUEST=500 LD_PRELOAD=$folder/failing.so \
        fails 1 'answered with TWINSTREAM_FAILED' c++ "${failing[@]}"
    FAILING_REQUEST=50 LD_PRELOAD=$folder/failing.so \
        fails 1 'answered with TWINSTREAM_FAILED' c++ --scenario MultiStream "${null[@]}"
    PYTHONPATH=$folder/failing fails 1 'a request has no answer' python "${failing[@]}"
}

# By the rules but for the duration where that is given.
run_full() {
    local language full
    for language in c++ python; do
        read -ra full <<<"$(on_cpu) ${DURATION_MS:+--min-duration $DURATION_MS}"
        valid $language --scenario Server --target-qps "${SERVER_QPS:-300}" "${full[@]}"
        valid $language --scenario Offline --target-qps "${OFFLINE_QPS:-5000}" "${full[@]}"
        valid $language --scenario SingleStream --target-latency "${SINGLE_MS:-2}" "${full[@]}"
        valid $language --scenario MultiStream --target-latency "${MULTI_MS:-8}" "${full[@]}"
        exact "$largest" $language --scenario Server --target-qps "${SERVER_QPS:-300}"
    done
}

# Raises the rate by steps until a run is not VALID, in three attempts.
run_rates() {
    local language rate attempt
    for language in c++ python; do
        for rate in 5 10 15 20 25 30 40 50 75 100 150 200 250 300 400 500; do
            for attempt in 1 2 3 none; do
                [ "$attempt" != none ] || break 2
                valid $language --scenario Server --target-qps ${rate}000 --backend null \
                    --min-duration "${DURATION_MS:-10000}" 2>"$folder/invalid.txt" && break
                grep -hE '^(loadgen:|Result is|99.00)' "$folder/invalid.txt" || true
            done
        done
    done
}

case $mode in
    short)
        prepare_failures
        run_short
        ;;
    full) run_full ;;
    rates) run_rates ;;
    *)
        echo "usage: $0 [full | rates]" >&2
        exit 2
        ;;
esac
echo '== LoadGen: ok'
