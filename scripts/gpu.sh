#!/usr/bin/env bash
# All that is to be tested and measured on a GPU, in one command, with prebuilt programs; needs no
# compiler.
#
#   scripts/gpu.sh [OUT [PART…]]
#   scripts/gpu.sh --list    the steps in order, the seconds that each may take, and their sum
#
# OUT (default: out/gpu) gets report.md, results.jsonl, tuning.json and logs.tgz, which holds each
# step's log, also where the script is interrupted. What the machine lacks is reported as skipped.
# PARTs, in this order unless named in another: prove kernels numerics integers sanitizers tune profile
# chunks probes rest load peer compile. First what is right, then what is fast, and of each what matters most. A
# step that takes longer than it may is ended, and no step that fails stops those behind it. Together
# the steps of all parts but the last may take less than LIMIT_S, and no step begins behind that.
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
limit_s=${LIMIT_S:-570}
# Where set, steps are told, not run.
list=''
[ "${1:-}" != --list ] || { list=1 && shift; }
out=${1:-out/gpu}
parts=("${@:2}")
[ ${#parts[@]} -gt 0 ] ||
    parts=(prove kernels numerics integers sanitizers tune profile chunks probes rest load peer compile)
images=(examples/images/cifar-*.png)
size=224x224
# Those that measurements are compared at, and the other buckets.
few_batches=1,8,32,128 rest_batches=2,4,16,64,256
peer_batches=$few_batches,256
convolutions=60 copies=30 repeats=20 choices=24 tune_repeats=10 proofs=20 proof_s=8
rates='poisson:200 poisson:2k poisson:10k poisson:20k' policies=serial,jit,stream load_s=2
# How many times as long as stated a step may take.
patience=1
if [ -n "${QUICK:-}" ]; then
    images=(examples/images/cifar-cat.png examples/images/cifar-dog.png)
    size=32x32 few_batches=1 convolutions=2 copies=1 repeats=1 choices=2 tune_repeats=1 proofs=1 proof_s=60
    rates=uniform:2 policies=stream load_s=1 patience=10
fi
model=(--size "$size") weights_i8=target/integers/model.safetensors
[ -n "${WEIGHTS:-}" ] && model=(--weights "$WEIGHTS") weights_i8=''
weights_i8=${WEIGHTS_I8:-$weights_i8}
integers=(--weights "$weights_i8" --size "$size")
failed=0
# The step under way: its name, its process, when it began; and what reads the device's clock meanwhile.
running='' child='' start_s=0 sampler=''
# Seconds of all steps that --list told.
sum_s=0
# Until the device has answered.
FIRST_S=15

# conclude STATUS: notes how the step ended; its lines of JSON join the results, each with its name.
conclude() {
    printf '| %s | %s | %s s |\n' "$running" "$1" $((SECONDS - start_s)) >>"$report"
    add "$running" <"$logs/$running.log"
    running='' child=''
}

# add NAME: lines of JSON to the results.
add() { sed -n "s/^{/{\"step\": \"$1\", /p" >>"$results"; }

# step NAME SECONDS_MAX COMMAND...: runs and logs it. Status 77 says that the machine lacks what it
# needs. Where CUT_OFF is set, to be cut off is no failure.
step() {
    local name=$1 seconds_max=$(($2 * patience)) code=0 left=$((limit_s - SECONDS))
    shift 2
    if [ -n "$list" ]; then
        printf '%-26s %3d\n' "$name" "$seconds_max"
        sum_s=$((sum_s + seconds_max))
        return
    fi
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
    [ -z "$list" ] || return
    echo "== $1: SKIPPED, $2"
    printf '| %s | skipped: %s | |\n' "$1" "$2" >>"$report"
}

# needs NAME WHY TEST...: whether a step can run; --list tells those that cannot, too.
needs() {
    [ -n "$list" ] || "${@:3}" || {
        skip "$1" "$2"
        return 1
    }
}

is_installed() { command -v "$1" >/dev/null; }

# Which of the kernels for one architecture may be used from here on: verdicts lie beside the tuning.
# Those that were refused make the step fail.
part_prove() {
    # What was proven before is proven again, for the time it takes is measured as well.
    local prove=("$program" prove --again --batches "$few_batches" --repeats "$proofs" --limit "$proof_s"
        --tuning "$tuning" --json)
    step prove 20 "${prove[@]}" "${model[@]}"
    has_integers prove-i8 || return
    step prove-i8 18 "${prove[@]}" "${integers[@]}"
}

# Each kernel by itself against scalar references, from a fixed seed.
part_kernels() {
    needs kernels "no $kernel_tests to run" test -x "$kernel_tests" || return
    step kernels 20 "$kernel_tests" "$convolutions" 1
}

part_numerics() {
    local many=() copy numerics=(python3 scripts/compare_backends.py "$program")
    # The engine's own batches, long ones among them; profile compares full ones of each bucket.
    for ((copy = 0; copy < copies; ++copy)); do many+=("${images[@]}"); done
    step numerics-32 12 "${numerics[@]}" --batch 256 "${many[@]}"
    [ -z "${QUICK:-}" ] || return
    step numerics-224 12 "${numerics[@]}" "${model[@]}" "${images[@]}"
    step numerics-one-by-one 8 "${numerics[@]}" --no-graphs --batch 1 "${images[@]}"
}

has_integers() {
    needs "$1" "no ${weights_i8:-WEIGHTS_I8 beside WEIGHTS}: see scripts/gpu-integers.sh" \
        test -f "$weights_i8"
}

# profile NAME SECONDS_MAX TUNING BATCHES REPEATS NETWORK...: layers against their bounds, batches one by
# one and behind one another, uploads beside them, and each bucket's logits against the CPU's; of
# integers each layer's bytes, too.
profile() {
    step "$1" "$2" "$program" profile "${@:6}" --batches "$4" --repeats "$5" --json --tuning "$3"
}

# Every layer's bytes, before it is known which kernels are fast.
part_integers() {
    [ -z "${QUICK:-}" ] || return
    has_integers integers || return
    profile integers 20 "$none" 1,8 1 "${integers[@]}"
}

# Together these run every kernel that an H100 is given in f16: tiles of all sizes, split and whole, in
# graphs and one by one; the ranking of classes; the engine's three streams. Those of integers share
# most of their code. What they slow down a hundred times is bounded by its time.
part_sanitizers() {
    local tool
    for tool in memcheck racecheck synccheck initcheck; do
        needs "sanitizer-$tool" 'compute-sanitizer is not installed' \
            is_installed compute-sanitizer || continue
        local sanitizer=(compute-sanitizer --tool "$tool" --error-exitcode 9 "$program")
        step "sanitizer-$tool-profile" 12 "${sanitizer[@]}" profile "${model[@]}" \
            --batches 1,32 --repeats 1 --tuning "$none"
        [ "$tool" = memcheck ] || continue
        step "sanitizer-$tool-classify" 8 "${sanitizer[@]}" classify --backend cuda \
            --tuning "$none" "${images[@]}"
        has_integers "sanitizer-$tool-i8" || continue
        step "sanitizer-$tool-i8" 18 "${sanitizer[@]}" profile "${integers[@]}" \
            --batches 1,32 --repeats 1 --tuning "$none"
    done
}

# tune NAME SECONDS_MAX PART BATCHES NETWORK...
tune() {
    step "$1" "$2" "$program" tune "${@:5}" --only "$3" --batches "$4" --choices $choices \
        --repeats $tune_repeats --tuning "$tuning" --json
}

# Every kernel of every convolution, of which the best are stored and used from here on.
part_tune() {
    tune tune 28 tiles $few_batches "${model[@]}"
    has_integers tune-i8 || return
    tune tune-i8 28 tiles $few_batches "${integers[@]}"
}

# The buckets that nothing but the load below is measured at: their kernels are proven first.
part_rest() {
    [ -z "${QUICK:-}" ] || return
    tune tune-rest 35 tiles $rest_batches "${model[@]}"
}

# sampled NAME SECONDS_MAX COMMAND...: a profile, and the device's clock and power every tenth of a second.
sampled() {
    if [ -z "$list" ] && is_installed nvidia-smi; then
        nvidia-smi --query-gpu=clocks.sm,power.draw --format=csv,noheader,nounits -lms 100 \
            >"$logs/$1.clock" 2>/dev/null &
        sampler=$!
    fi
    profile "$@"
    [ -n "$sampler" ] || return
    kill "$sampler"
    sampler=''
    sed -n 's/^\([0-9.]*\), \([0-9.]*\)$/{"clock_mhz": \1, "power_w": \2}/p' "$logs/$1.clock" | add "$1"
}

part_profile() {
    sampled profile 30 "$tuning" $few_batches $repeats "${model[@]}"
    has_integers profile-i8 || return
    sampled profile-i8 30 "$tuning" $few_batches $repeats "${integers[@]}"
}

# Layers 1 and 2 of a batch of 128 in chunks of several lengths, and without.
part_chunks() {
    [ -z "${QUICK:-}" ] || return
    tune chunks 15 chunks 128 "${model[@]}"
    has_integers chunks-i8 || return
    tune chunks-i8 15 chunks 128 "${integers[@]}"
}

is_probe() { [ -x "$probes/$1" ] && [ -z "${QUICK:-}" ]; }

# What the model of the device and the kernels rest on, and what kernels to come may do. Those that
# have 14 seconds run their variants in processes apart, of which two may hang.
part_probes() {
    local probe name
    for probe in shared_fill:10 graph_gap:8 small_map:14 wgmma_plain:14 shared_port:6 memory:5 \
        two_streams:8 wgmma_rows:14 overlapping_map:14 upload:8; do
        name=${probe%:*}
        needs "probe-$name" "no $probes/$name to run on a GPU" \
            is_probe "$name" || continue
        step "probe-$name" "${probe#*:}" "$probes/$name"
    done
}

part_load() {
    local rate
    for rate in $rates; do
        step "load-${rate/:/-}" 10 "$program" bench --backend cuda "${model[@]}" \
            --tuning "$tuning" --arrivals "$rate" --duration ${load_s}s --policies $policies --json
    done
}

# peer NAME SECONDS_MAX MODES: a network of as many classes.
peer() {
    local classes
    classes=$(sed -n '/"layer":"fc"/s/.*"output":\[1,1,\([0-9]*\)\].*/\1/p' <<<"$network")
    step "$1" "$2" python3 scripts/peer_pytorch.py --modes "$3" --batches $peer_batches \
        --classes "$classes"
}

part_peer() { peer peer 40 graph; }

# Takes minutes: what time is left.
part_compile() { [ -n "$list" ] || CUT_OFF=1 peer compile "$limit_s" compile; }

finish() {
    trap - EXIT
    [ -z "$sampler" ] || kill "$sampler" 2>/dev/null
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
results=$out/results.jsonl report=$out/report.md tuning=$out/tuning.json network=''
if [ -n "$list" ]; then
    none=''
    for part in "${parts[@]}"; do "part_$part"; done
    sum_s=$((sum_s + FIRST_S))
    printf '%-26s %3d\n%-26s %3d of %d\n' 'until the device answers' $FIRST_S sum $sum_s "$limit_s"
    [ $sum_s -le "$limit_s" ]
    exit
fi
[ -x "$program" ] || {
    echo "no $program to run" >&2
    exit 1
}
logs=$(mktemp -d) || exit 1
none=$logs/none.json
# Whatever else is wrong with a device, the kernels' tests come first.
if ! timeout -k 2 $((FIRST_S * patience)) "$program" profile --batches 1 --repeats 1 \
    --tuning "$none" --json >"$logs/device.log" 2>&1 && grep -q 'no CUDA' "$logs/device.log"; then
    cat "$logs/device.log" >&2
    rm -rf "$logs"
    echo 'no GPU: nothing was measured' >&2
    exit 2
fi
mkdir -p "$out"
: >"$results"
network=$("$program" inspect --json "${model[@]}")
add network <<<"$network"
{
    printf '# GPU report\n\n%s, %s\n\n' "$(date -u +%FT%TZ)" "$("$program" --version)"
    nvidia-smi --query-gpu=name,uuid,driver_version,clocks.max.sm,power.limit --format=csv \
        2>/dev/null | sed 's/^/    /'
    printf '\n| step | end | time |\n|---|---|---|\n'
} >"$report"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader -i 0 2>/dev/null |
    sed "s/^\(.*\), \(.*\)$/{\"name\": \"\1\", \"driver\": \"\2\", \"time\": \"$(date -u +%F)\"}/" |
    add device
trap finish EXIT
trap 'failed=1; exit 1' HUP INT TERM
for part in "${parts[@]}"; do "part_$part"; done
