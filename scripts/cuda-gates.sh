#!/bin/sh
# What can be held against the kernels without a GPU: compiles them for every target and fails where one
# spills registers, has a local stack, or lacks the tensor core instructions and asynchronous copies that
# it is written for. Prints a table of registers, shared memory, code size and of the blocks that fit a
# multiprocessor by these (docs/KERNELS.md keeps it). Needs nvcc, cuobjdump and nvdisasm: in PATH, or by
# scripts/cuda-toolkit.sh.
set -eu
cd "$(dirname "$0")/.."
toolkit=target/cuda-toolkit/bin
[ -x "$toolkit/nvcc" ] && PATH=$PWD/$toolkit:$PATH
for tool in nvcc cuobjdump nvdisasm; do
    command -v "$tool" >/dev/null || {
        echo "$0: no $tool; see scripts/cuda-toolkit.sh" >&2
        exit 1
    }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

[ $# -gt 0 ] || set -- 80 86 89 90a
for target; do
    for source in cuda/*.cu cuda/sm*/*.cu; do
        name=$(basename "$source" .cu)
        nvcc -std=c++17 -arch="sm_$target" -Werror all-warnings -Xptxas -v,--warn-on-spills -Icuda \
            -cubin -o "$folder/$name.cubin" "$source" 2>"$folder/$name.log" ||
            {
                cat "$folder/$name.log" >&2
                exit 1
            }
        {
            echo "target $target"
            cat "$folder/$name.log"
            cuobjdump -sass "$folder/$name.cubin"
        } >>"$folder/report"
    done
done

awk '
# Threads and dynamic shared memory by kernel: of the convolutions from the list of tiles, of the
# others from launch.h.
FILENAME == "cuda/tiles.inc" {
    if (split($0, part, /[(, )]+/) >= 11 && $1 ~ /^TWINSTREAM_.*_TILE/) {
        threads[part[2]] = part[7] * part[8] * 32
        shared[part[2]] = part[11] + 0
    }
    next
}
FILENAME == "cuda/launch.h" {
    if ($1 ~ /_THREADS$/) threads[tolower(substr($1, 12, length($1) - 19))] = $3 + 0
    if ($1 ~ /_SHARED_BYTES$/) shared[tolower(substr($1, 12, length($1) - 24))] = $3 + 0
    next
}
$1 == "target" { target = $2 }
/Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
/bytes stack frame/ { if ($1 + $5 + $9 != 0) fail(kernel " for sm_" target ": " $0) }
/Used [0-9]+ registers/ { for (i = 1; i < NF; ++i) if ($i == "Used") registers[target, kernel] = $(i + 1) }
$1 == "Function" { kernel = $3; order[++len] = target SUBSEP kernel }
/^ *\/\*[0-9a-f]+\*\/ .*;/ {
    ++code[target, kernel]
    for (i = 2; i < NF; ++i) {
        split($i, part, "."); opcode = part[1]
        if (opcode ~ /^(HMMA|IMMA|LDSM|LDGSTS)$/) ++count[target, kernel, opcode]
    }
}
function fail(what) { print what >"/dev/stderr"; failed = 1 }
function smaller(a, b) { return a < b ? a : b }
END {
    shared_of["80"] = 167936; shared_of["86"] = shared_of["89"] = 102400; shared_of["90a"] = 233472
    threads_of["80"] = threads_of["90a"] = 2048; threads_of["86"] = threads_of["89"] = 1536
    print "| target | kernel | registers | shared bytes | code bytes | HMMA | IMMA | LDSM | LDGSTS | blocks |"
    print "|---|---|---|---|---|---|---|---|---|---|"
    for (n = 1; n <= len; ++n) {
        split(order[n], part, SUBSEP); target = part[1]; kernel = part[2]
        if (!(kernel in threads)) fail(kernel ": in neither launch.h nor tiles.inc")
        # Registers are handed out by eights, and each block takes 1 KiB of shared memory besides.
        taken = int((registers[target, kernel] + 7) / 8) * 8 * threads[kernel]
        blocks = int(smaller(65536 / taken, threads_of[target] / threads[kernel]))
        if (target in shared_of) blocks = int(smaller(blocks, shared_of[target] / (shared[kernel] + 1024)))
        if (blocks < 1) fail(kernel " for sm_" target ": not even one block fits")
        print "| sm_" target " | `" kernel "` | " registers[target, kernel] " | " shared[kernel] " | " \
            code[target, kernel] * 16 " | " count[target, kernel, "HMMA"] + 0 " | " \
            count[target, kernel, "IMMA"] + 0 " | " \
            count[target, kernel, "LDSM"] + 0 " | " count[target, kernel, "LDGSTS"] + 0 " | " blocks " |"
        mma = kernel ~ /_i8/ ? "IMMA" : "HMMA"
        wanted = kernel ~ /^(conv|stem)/ ? mma " LDSM LDGSTS" : kernel ~ /^fully_connected/ ? mma : ""
        wanted_len = split(wanted, part, " ")
        for (i = 1; i <= wanted_len; ++i)
            if (!count[target, kernel, part[i]]) fail(kernel " for sm_" target ": has no " part[i])
    }
    exit failed
}' cuda/tiles.inc cuda/launch.h "$folder/report"
