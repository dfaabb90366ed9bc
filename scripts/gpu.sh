#!/usr/bin/env bash
# All that is to be tested and measured on a GPU, in one command, with prebuilt programs; needs no
# compiler.
#
#   scripts/gpu.sh [OUT [PART…]]
#
# OUT (default: out/gpu) gets report.md, results.jsonl, tuning.json and logs.tgz, which holds each
# step's log, also where the script is interrupted. What the machine lacks is reported as skipped.
# PARTs, in this order unless named in another: kernels numerics profile peer tune integers load
# sanitizers probes compile. What matters most comes first; the steps of all parts but the last may
# take 564 s together.
# Exit status: 0 all that could run succeeded, 1 a step failed or the time was up before it, 2 there is
# no GPU.
#   TWINSTREAM   the program, built with feature cuda [target/release/twinstream]
#   KERNEL_TESTS the program that scripts/kernels.sh gpu made [target/kernel-tests]
#   PROBES       folder that scripts/cuda-probes.sh filled [target/probes]
#   WEIGHTS      safetensors file of a network at 224x224 [the repository's, at that size]
#   WEIGHTS_I8   the same network in 8-bit integers [the repository's, which scripts/gpu-integers.sh
#                made]
#   LIMIT_S      seconds for everything [570]
#   QUICK=1      one repetition of little: to try this script on the emulated device
set -uo pipefail
cd "$(dirname "$0")/.." || exit
program=${TWINSTREAM:-target/release/twinstream}
kernel_tests=${KERNEL_TESTS:-target/kernel-tests}
probes=${PROBES:-target/probes}
out=${1:-out/gpu}
limit_s=${LIMIT_S:-570}
parts=("${@:2}")
[ ${#parts[@]} -gt 0 ] || parts=(kernels numerics profile peer tune integers load sanitizers probes compile)
images=(examples/images/cifar-*.png)
size=224x224
batches=1,2,4,8,16,32,64,128,256
# Those that other measurements are compared at.
few_batches=1,8,32,128
peer_batches=$few_batches,256
convolutions=60 copies=30 repeats=20 choices=16 tune_repeats=10
rates='poisson:200 poisson:2k poisson:10k poisson:20k' policies=serial,jit,stream load_s=2
# How many times as long as stated a step may take.
patience=1
if [ -n "${QUICK:-}" ]; then
    images=(examples/images/cifar-cat.png examples/images/cifar-dog.png)
    size=32x32 batches=1 few_batches=1 convolutions=2 copies=1 repeats=1 choices=2 tune_repeats=1
    rates=uniform:2 policies=stream load_s=1 patience=10
fi
model=(--size "$size") weights_i8=target/integers/model.safetensors
[ -n "${WEIGHTS:-}" ] && model=(--weights "$WEIGHTS") weights_i8=''
weights_i8=${WEIGHTS_I8:-$weights_i8}
integers=(--weights "$weights_i8" --size "$size")
failed=0
# The step under way: its name, its process, when it began.
running='' child='' start_s=0

# conclude STATUS: notes how the step ended; its lines of JSON join the results, each with its name.
conclude() {
    printf '| %s | %s | %s s |\n' "$running" "$1" $((SECONDS - start_s)) >>"$report"
    sed -n "s/^{/{\"step\": \"$running\", /p" "$logs/$running.log" >>"$results"
    running='' child=''
}

# step NAME SECONDS_MAX COMMAND...: runs and logs it. Status 77 says that the machine lacks what it
# needs. Where CUT_OFF is set, to be cut off is no failure.
step() {
    local name=$1 seconds_max=$(($2 * patience)) code=0 left=$((limit_s - SECONDS))
    shift 2
    if [ "$left" -lt 5 ]; then
        skip "$name" "$limit_s s are over"
        [ -n "${CUT_OFF:-}" ] || failed=1
        return
    fi
    [ "$seconds_max" -lt "$left" ] || seconds_max=$left
    echo "== $name"
    running=$name start_s=$SECONDS
    # In the background, since a shell heeds signals only while it waits.
    timeout -k 2 "$seconds_max" "$@" >"$logs/$name.log" 2>&1 </dev/null &
    child=$!
    wait "$child" || code=$?
    case $code in
        0) conclude ok ;;
        77) conclude "skipped: $(tail -n 1 "$logs/$name.log")" ;;
        124 | 137)
            conclude "not done in $seconds_max s"
            [ -n "${CUT_OFF:-}" ] || failed=1
            ;;
        *)
            conclude "failed: status $code, see $name.log"
            failed=1
            ;;
    esac
}

skip() {
    echo "== $1: SKIPPED, $2"
    printf '| %s | skipped: %s | |\n' "$1" "$2" >>"$report"
}

# Each kernel by itself against scalar references, from a fixed seed.
part_kernels() {
    if [ -x "$kernel_tests" ]; then
        step kernels 20 "$kernel_tests" "$convolutions" 1
    else
        skip kernels "no $kernel_tests to run"
    fi
}

part_numerics() {
    local many=() copy numerics=(python3 scripts/compare_backends.py "$program")
    # The engine's own batches, long ones among them; profile compares full ones of each bucket.
    for ((copy = 0; copy < copies; ++copy)); do many+=("${images[@]}"); done
    step numerics-32 15 "${numerics[@]}" --batch 256 "${many[@]}"
    [ -z "${QUICK:-}" ] || return
    step numerics-224 15 "${numerics[@]}" "${model[@]}" "${images[@]}"
    step numerics-one-by-one 10 "${numerics[@]}" --no-graphs --batch 1 "${images[@]}"
}

# profile NAME SECONDS_MAX TUNING BATCHES NETWORK...: layers against their bounds, batches one by one
# and behind one another, uploads beside them, and each bucket's logits against the CPU's; of integers
# each layer's bytes, too.
profile() {
    step "$1" "$2" "$program" profile "${@:5}" --batches "$4" --repeats $repeats --json \
        --tuning "$3"
}

part_profile() { profile profile-model 30 "$none" $few_batches "${model[@]}"; }

# peer NAME SECONDS_MAX MODES: a network of as many classes.
peer() {
    local layers classes
    layers=$("$program" inspect --json "${model[@]}")
    classes=$(tail -n 2 <<<"$layers" | sed -n '1s/.*"output":\[1,1,\([0-9]*\)\].*/\1/p')
    step "$1" "$2" python3 scripts/peer_pytorch.py --modes "$3" --batches $peer_batches \
        --classes "$classes"
}

part_peer() { peer peer 45 graph; }

# tune NAME SECONDS_MAX BATCHES NETWORK...
tune() {
    step "$1" "$2" "$program" tune "${@:4}" --batches "$3" --choices $choices \
        --repeats $tune_repeats --tuning "$tuning" --json
}

part_tune() {
    tune tune 60 $batches "${model[@]}"
    if [ -f "$tuning" ]; then
        profile profile-tuned 40 "$tuning" $batches "${model[@]}"
    else
        skip profile-tuned 'nothing was tuned'
    fi
}

has_integers() {
    [ -f "$weights_i8" ] || {
        skip "$1" "no ${weights_i8:-WEIGHTS_I8 beside WEIGHTS}: see scripts/gpu-integers.sh"
        return 1
    }
}

# The network in 8-bit integers, behind what it is compared with.
part_integers() {
    has_integers integers || return
    tune tune-i8 28 $few_batches "${integers[@]}"
    profile profile-i8 30 "$tuning" $few_batches "${integers[@]}"
}

part_load() {
    local rate
    for rate in $rates; do
        step "load-${rate/:/-}" 12 "$program" bench --backend cuda "${model[@]}" \
            --tuning "$tuning" --arrivals "$rate" --duration ${load_s}s --policies $policies --json
    done
}

# Together these run every kernel that an H100 is given in f16: tiles of all sizes, split and whole, in graphs and one
# by one; the ranking of classes; the engine's three streams. Those of integers share most of their code.
part_sanitizers() {
    local tool
    for tool in memcheck racecheck synccheck initcheck; do
        if ! command -v compute-sanitizer >/dev/null; then
            skip "sanitizer-$tool" 'compute-sanitizer is not installed'
            continue
        fi
        local sanitizer=(compute-sanitizer --tool "$tool" --error-exitcode 9 "$program")
        step "sanitizer-$tool-profile" 18 "${sanitizer[@]}" profile "${model[@]}" \
            --batches 1,32 --repeats 1 --tuning "$none"
        case $tool in
            memcheck | racecheck)
                step "sanitizer-$tool-classify" 10 "${sanitizer[@]}" classify --backend cuda \
                    --tuning "$none" "${images[@]}"
                ;;
        esac
        if [ "$tool" = memcheck ] && has_integers "sanitizer-$tool-i8"; then
            step "sanitizer-$tool-i8" 18 "${sanitizer[@]}" profile "${integers[@]}" \
                --batches 1,32 --repeats 1 --tuning "$none"
        fi
    done
}

# What the device itself can do: gaps between launches, filling shared memory, two streams, uploads;
# and what the Hopper path may do with wgmma and TMA.
part_probes() {
    local probe name seconds_max
    for probe in graph_gap:8 shared_fill:8 two_streams:8 upload:8 \
        wgmma_rows:22 overlapping_map:22 small_map:22; do
        name=${probe%:*} seconds_max=${probe#*:}
        if [ -x "$probes/$name" ] && [ -z "${QUICK:-}" ]; then
            step "probe-$name" "$seconds_max" "$probes/$name"
        else
            skip "probe-$name" "no $probes/$name to run on a GPU"
        fi
    done
}

# Takes minutes: what time is left.
part_compile() { CUT_OFF=1 peer compile "$limit_s" compile; }

finish() {
    trap - EXIT
    if [ -n "$running" ]; then
        kill "$child" 2>/dev/null
        conclude interrupted
    fi
    python3 scripts/gpu_report.py "$results" >>"$report" || failed=1
    tar -C "$logs" -czf "$out/logs.tgz" .
    rm -rf "$logs"
    cat "$report"
    exit $failed
}

for part in "${parts[@]}"; do
    declare -F "part_$part" >/dev/null || {
        echo "no part $part" >&2
        exit 1
    }
done
[ -x "$program" ] || {
    echo "no $program to run" >&2
    exit 1
}
logs=$(mktemp -d) || exit 1
none=$logs/none.json
# Whatever else is wrong with a device, the kernels' tests come first.
if ! timeout -k 2 $((15 * patience)) "$program" profile --batches 1 --repeats 1 \
    --tuning "$none" --json >"$logs/device.log" 2>&1 && grep -q 'no CUDA' "$logs/device.log"; then
    cat "$logs/device.log" >&2
    rm -rf "$logs"
    echo 'no GPU: nothing was measured' >&2
    exit 2
fi
mkdir -p "$out"
results=$out/results.jsonl report=$out/report.md tuning=$out/tuning.json
: >"$results"
{
    printf '# GPU report\n\n%s, %s\n\n' "$(date -u +%FT%TZ)" "$("$program" --version)"
    nvidia-smi --query-gpu=name,uuid,driver_version,clocks.max.sm,power.limit --format=csv \
        2>/dev/null | sed 's/^/    /'
    printf '\n| step | end | time |\n|---|---|---|\n'
} >"$report"
trap finish EXIT
trap 'failed=1; exit 1' HUP INT TERM
for part in "${parts[@]}"; do "part_$part"; done
