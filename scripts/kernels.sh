#!/bin/sh
# The kernel tests of cuda/tests: every kernel against scalar references, over the driver's calls.
#
#   scripts/kernels.sh [RANDOM_LEN [SEED]]     on the emulated device
#   scripts/kernels.sh network [SEED]          convolutions on wgmma with every shape of ResNet-50
#   scripts/kernels.sh gpu [PROGRAM]           builds them for GPUs [target/kernel-tests]
#   scripts/kernels.sh emulated [PROGRAM]      builds them for the emulated device, the same way
#
# The first runs them plain, then under AddressSanitizer and UndefinedBehaviorSanitizer, then with
# ThreadSanitizer looking for races between the threads of a block, and for stores that no fence
# follows before a copy or a product reads them; with RANDOM_LEN random convolutions, fewer where they
# are looked at. Needs g++ alone, as does the second, which takes minutes. The
# third needs nvcc, in PATH or by scripts/cuda-toolkit.sh; the program carries its kernels and opens
# the driver when it runs, takes RANDOM_LEN and SEED, and ends with status 77 where there is none.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export compiler="${CXX:-g++} -std=c++17 -g -Wall -Wextra -Wpedantic -Wshadow -Werror -fno-strict-aliasing"
kernels=$(find cuda -name '*.cu' ! -path 'cuda/probes/*' ! -path 'cuda/ptx/*' | sort)
same=$(for source in $kernels; do basename "$source"; done | sort | uniq -d)
[ -z "$same" ] || {
    echo "$0: two modules of one name: $same" >&2
    exit 1
}

# compile TO FLAGS SOURCES...: to objects in folder TO, several at a time.
compile() {
    mkdir -p "$1"
    to=$1 flags=$2
    shift 2
    # shellcheck disable=SC2016 # for the shell that compiles
    printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} sh -c \
        '$compiler $0 -x c++ -c "$1" -o "$2/$(echo "$1" | tr / _).o"' "$flags" {} "$to"
}

# emulated NAME DEVICE_FLAGS KERNEL_FLAGS PROGRAM [LINKER_FLAGS], the kernels' without
emulated() {
    compile "$folder/$1" "$2" cuda/emulator/*.cpp cuda/emulator/driver/*.cpp
    # shellcheck disable=SC2086 # a word a file
    compile "$folder/$1" "$3" $kernels cuda/tests/*.cpp cuda/tests/emulated/*.cpp
    # shellcheck disable=SC2086 # flags are words
    ${CXX:-g++} ${5-$3} "$folder/$1"/*.o -o "$4" -pthread
}

# An assembly file with the fat binaries, and a table of where they begin.
embed() {
    echo '.section .rodata'
    for binary; do
        printf '.balign 64\n%s:\n.incbin "%s"\n' "module_$(basename "$binary" .fatbin)" "$binary"
    done
    printf '.section .data.rel.ro,"aw"\n.balign 8\n.globl twinstream_modules\ntwinstream_modules:\n'
    for binary; do
        echo ".quad module_$(basename "$binary" .fatbin)"
    done
    printf '.quad 0\n.section .note.GNU-stack,"",%%progbits\n'
}

code_for() { # code_for TARGET sm|compute: code, or PTX
    echo "-gencode=arch=compute_$1,code=$2_$1"
}

# gpu PROGRAM: with the same code for the same targets as build.rs has it.
gpu() {
    toolkit=target/cuda-toolkit/bin
    [ -x "$toolkit/nvcc" ] && PATH=$PWD/$toolkit:$PATH
    command -v nvcc >/dev/null || {
        echo "$0: no nvcc; see scripts/cuda-toolkit.sh" >&2
        exit 1
    }
    targets=${TWINSTREAM_CUDA_TARGETS:-80,86,89,90a}
    code=''
    for target in $(echo "$targets" | tr , ' '); do
        code="$code $(code_for "$target" sm)"
    done
    code="$code $(code_for "$(echo "${targets##*,}" | tr -d '[:alpha:]')" compute)"
    for source in $kernels; do
        of_source=$code
        # What only one architecture has is compiled for no other.
        case $source in
            cuda/sm*a/*)
                target=$(basename "$(dirname "$source")")
                target=${target#sm}
                case ,$targets, in *,"$target",*) ;; *) continue ;; esac
                of_source=$(code_for "$target" sm)
                ;;
        esac
        # shellcheck disable=SC2086 # flags are words
        nvcc -fatbin -std=c++17 -O3 -lineinfo --threads 0 $of_source "$source" \
            -o "$folder/$(basename "$source" .cu).fatbin"
    done
    embed "$folder"/*.fatbin >"$folder/modules.s"
    compile "$folder" -O2 cuda/driver/loader.cpp cuda/tests/*.cpp cuda/tests/gpu/*.cpp
    # The machine that it runs on may have another C++ library.
    ${CXX:-g++} -static-libstdc++ -static-libgcc "$folder/modules.s" "$folder"/*.o -o "$1" -ldl
}

case ${1:-} in
    gpu | emulated)
        program=${2:-target/kernel-tests}
        mkdir -p "$(dirname "$program")"
        if [ "$1" = gpu ]; then gpu "$program"; else emulated plain -O2 -O2 "$program"; fi
        echo "$program"
        exit
        ;;
    network)
        emulated plain -O2 -O2 "$folder/tests"
        "$folder/tests" "$@"
        exit
        ;;
esac

random_len=${1:-60}
[ $# -gt 0 ] && shift
few=$((random_len / 4))
echo '== plain'
emulated plain -O2 -O2 "$folder/tests"
"$folder/tests" "$random_len" "$@"
echo '== memory'
memory='-O1 -fsanitize=address,undefined -fno-sanitize-recover=all'
emulated memory "$memory" "$memory" "$folder/tests"
"$folder/tests" "$few" "$@"
echo '== races'
# The emulator itself is left out: its own state is no memory of the device.
races='-O1 -DTWINSTREAM_RACE_CHECK'
emulated races "$races" "$races -fsanitize=thread" "$folder/tests"
"$folder/tests" "$few" "$@"
echo '== stores'
# The compiler's calls before each store go to accesses.cpp, not to ThreadSanitizer.
compile "$folder/stores" -O1 cuda/emulator/tests/accesses.cpp
emulated stores -O2 '-O1 -fsanitize=thread' "$folder/tests" -O1
"$folder/tests" "$few" "$@"
