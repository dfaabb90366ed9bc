#!/usr/bin/env bash
# All that is to be measured on a GPU, in one command, with a prebuilt program; needs no compiler.
#
#   scripts/gpu.sh [OUT]
#
# OUT (default: out/gpu) gets report.md, results.jsonl and each step's log. What the machine lacks
# is reported as skipped. What matters most comes first. Exit status: 0 all that could run succeeded,
# 1 a step failed or the time was up before it, 2 there is no GPU.
#   TWINSTREAM   the program, built with feature cuda [target/release/twinstream]
#   PROBES       folder that scripts/cuda-probes.sh filled [target/probes]
#   WEIGHTS      safetensors file of a network at 224x224 [the repository's, at that size]
#   LIMIT_S      seconds for everything [570]
#   QUICK=1      one repetition of little: to try this script on the emulated device
set -uo pipefail
cd "$(dirname "$0")/.."
program=${TWINSTREAM:-target/release/twinstream}
out=${1:-out/gpu}
limit_s=${LIMIT_S:-570}
mkdir -p "$out"
results=$out/results.jsonl
report=$out/report.md
: >"$results"
images=(examples/images/cifar-*.png)
model=(--size 224x224)
[ -n "${WEIGHTS:-}" ] && model=(--weights "$WEIGHTS")
batches=1,8,32,128,256
repeats=50
rates='poisson:200 poisson:2k poisson:10k poisson:20k poisson:30k'
seconds=5
if [ -n "${QUICK:-}" ]; then
    images=(examples/images/cifar-cat.png examples/images/cifar-dog.png)
    model=() batches=1 repeats=1 rates=uniform:2 seconds=2
fi
failed=0

# step NAME SECONDS_MAX COMMAND...: runs it, logs it, notes how it ended; its lines of JSON join the
# results, each with the step's name.
step() {
    local name=$1 seconds_max=$2 start=$SECONDS status=ok code=0
    local left=$((limit_s - SECONDS))
    shift 2
    if [ "$left" -lt 5 ]; then
        skip "$name" "$limit_s s are over"
        failed=1
        return
    fi
    [ "$seconds_max" -lt "$left" ] || seconds_max=$left
    echo "== $name"
    timeout -k 5 "$seconds_max" "$@" >"$out/$name.log" 2>&1 || code=$?
    [ "$code" -eq 0 ] || status="failed, see $name.log"
    [ "$code" -ne 124 ] || status="not done in $seconds_max s"
    [ "$code" -eq 0 ] || failed=1
    printf '| %s | %s | %s s |\n' "$name" "$status" $((SECONDS - start)) >>"$report"
    sed -n "s/^{/{\"step\": \"$name\", /p" "$out/$name.log" >>"$results"
}

skip() {
    echo "== $1: SKIPPED, $2"
    printf '| %s | skipped: %s | |\n' "$1" "$2" >>"$report"
}

if ! "$program" profile --batches 1 --repeats 1 --json >"$out/device.log" 2>&1; then
    cat "$out/device.log" >&2
    echo 'no GPU that can be used: nothing was measured' >&2
    exit 2
fi
{
    printf '# GPU report\n\n%s, %s\n\n' "$(date -u +%FT%TZ)" "$("$program" --version)"
    nvidia-smi --query-gpu=name,uuid,driver_version,clocks.max.sm,power.limit --format=csv \
        2>/dev/null | sed 's/^/    /'
    printf '\n| step | end | time |\n|---|---|---|\n'
} >"$report"

numerics=(python3 scripts/compare_backends.py "$program")
step numerics-32 30 "${numerics[@]}" "${images[@]}"
step numerics-224 60 "${numerics[@]}" ${model[@]+"${model[@]}"} "${images[@]}"
[ -n "${QUICK:-}" ] ||
    step numerics-one-by-one 30 "${numerics[@]}" --no-graphs --batch 1 "${images[@]}"

# Layers against their bounds, graph against single launches (their gap is what launches cost),
# uploads alone and beside computing.
profile=("$program" profile ${model[@]+"${model[@]}"} --batches $batches --repeats $repeats --json)
step profile-model 60 "${profile[@]}" --tuning "$out/none.json"
if python3 -c 'import torch, torchvision, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null
then
    step peer 180 python3 scripts/peer_pytorch.py --batches $batches
else
    skip peer 'PyTorch with CUDA is not installed'
fi
tuning=$out/none.json
if [ -z "${QUICK:-}" ]; then
    tuning=$out/tuning.json
    step tune 120 "$program" tune ${model[@]+"${model[@]}"} --tuning "$tuning" --json
    step profile-tuned 60 "${profile[@]}" --tuning "$tuning"
fi

for rate in $rates; do
    step "load-${rate/:/-}" 40 "$program" bench --backend cuda ${model[@]+"${model[@]}"} \
        --tuning "$tuning" --arrivals "$rate" --duration ${seconds}s \
        --policies serial,jit,stream --json
done

for tool in memcheck racecheck synccheck initcheck; do
    if command -v compute-sanitizer >/dev/null; then
        step "sanitizer-$tool" 90 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$program" classify --backend cuda --batch 3 "${images[@]}"
    else
        skip "sanitizer-$tool" 'compute-sanitizer is not installed'
    fi
done

# What the device itself can do: gaps between launches, filling shared memory, two streams, uploads;
# and what the Hopper path may do with wgmma and TMA.
probes=${PROBES:-target/probes}
for name in graph_gap shared_fill two_streams upload wgmma_rows overlapping_map small_map; do
    if [ -x "$probes/$name" ] && [ -z "${QUICK:-}" ]; then
        step "probe-$name" 60 "$probes/$name"
    else
        skip "probe-$name" "no $probes/$name to run on a GPU"
    fi
done

python3 scripts/gpu_report.py "$results" >>"$report" || failed=1
cat "$report"
exit $failed
