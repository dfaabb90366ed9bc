#!/usr/bin/env bash
# All that is to be measured on a GPU, in one command, with a prebuilt program; needs no compiler.
#
#   scripts/gpu.sh [OUT]
#
# OUT (default: out/gpu) gets report.md, results.jsonl and each step's log. What the machine lacks
# is reported as skipped. Exit status: 0 all that could run succeeded, 1 a step failed, 2 there is no
# GPU.
#   TWINSTREAM   the program, built with feature cuda [target/release/twinstream]
#   PROBES       folder that scripts/cuda-probes.sh filled [target/probes]
#   WEIGHTS      safetensors file of a network at 224x224 [the repository's, at that size]
#   QUICK=1      one repetition of little: to try this script on the emulated device
set -uo pipefail
cd "$(dirname "$0")/.."
program=${TWINSTREAM:-target/release/twinstream}
out=${1:-out/gpu}
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
seconds=10
if [ -n "${QUICK:-}" ]; then
    images=(examples/images/cifar-cat.png examples/images/cifar-dog.png)
    model=() batches=1 repeats=1 rates=uniform:2 seconds=2
fi
failed=0

# step NAME COMMAND...: runs it, logs it, notes how it ended.
step() {
    local name=$1 start=$SECONDS status=ok
    shift
    echo "== $name"
    "$@" >"$out/$name.log" 2>&1 || status="failed, see $name.log"
    [ "$status" = ok ] || failed=1
    printf '| %s | %s | %s s |\n' "$name" "$status" $((SECONDS - start)) >>"$report"
}

skip() {
    echo "== $1: SKIPPED, $2"
    printf '| %s | skipped: %s | |\n' "$1" "$2" >>"$report"
}

# Results go where the others' are, each line with the step's name.
results_of() {
    sed -n "s/^{/{\"step\": \"$1\", /p" "$out/$1.log" >>"$results"
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

numerics() {
    local backend
    for backend in cpu cuda; do
        "$program" classify --backend "$backend" "$@" --json --logits "${images[@]}" \
            >"$out/logits-$backend.jsonl" || return 1
    done
    python3 scripts/compare_logits.py "$out/logits-cpu.jsonl" "$out/logits-cuda.jsonl"
}
step numerics-32 numerics
step numerics-224 numerics ${model[@]+"${model[@]}"}
[ -n "${QUICK:-}" ] || step numerics-one-by-one numerics --no-graphs --batch 1
for name in numerics-32 numerics-224; do results_of "$name"; done

for tool in memcheck racecheck synccheck initcheck; do
    if command -v compute-sanitizer >/dev/null; then
        step "sanitizer-$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$program" classify --backend cuda --batch 3 "${images[@]}"
    else
        skip "sanitizer-$tool" 'compute-sanitizer is not installed'
    fi
done

# Layers against their bounds, graph against single launches (their gap is what launches cost),
# uploads alone and beside computing.
step profile-model "$program" profile ${model[@]+"${model[@]}"} --batches $batches \
    --repeats $repeats --tuning "$out/none.json" --json
results_of profile-model
if [ -z "${QUICK:-}" ]; then
    step tune "$program" tune ${model[@]+"${model[@]}"} --tuning "$out/tuning.json" --json
    results_of tune
    step profile-tuned "$program" profile ${model[@]+"${model[@]}"} --batches $batches \
        --repeats $repeats --tuning "$out/tuning.json" --json
    results_of profile-tuned
fi

for rate in $rates; do
    name=load-${rate/:/-}
    step "$name" "$program" bench --backend cuda ${model[@]+"${model[@]}"} --arrivals "$rate" \
        --duration ${seconds}s --policies serial,jit,stream --json
    results_of "$name"
done

if python3 -c 'import torch, torchvision, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null
then
    step peer python3 scripts/peer_pytorch.py --batches $batches
    results_of peer
else
    skip peer 'PyTorch with CUDA is not installed'
fi

# What the device itself can do: gaps between launches, filling shared memory, two streams, uploads;
# and what the Hopper path may do with wgmma and TMA.
probes=${PROBES:-target/probes}
for name in graph_gap shared_fill two_streams upload wgmma_rows overlapping_map small_map; do
    if [ -x "$probes/$name" ] && [ -z "${QUICK:-}" ]; then
        step "probe-$name" "$probes/$name"
        results_of "probe-$name"
    else
        skip "probe-$name" "no $probes/$name to run on a GPU"
    fi
done

python3 scripts/gpu_report.py "$results" >>"$report" || failed=1
cat "$report"
exit $failed
