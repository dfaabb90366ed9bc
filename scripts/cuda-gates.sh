#!/bin/sh
# What can be held against the kernels without a GPU: scripts/cuda-gates.sh [--write] [TARGET...]
#
# Compiles them for every target and fails where one spills registers, has a local stack, lacks the
# instructions that it is written for or has others that cost much, where ptxas says that it made code
# slower than it was written, and where the main loop's counts and bounds are not those stored in
# scripts/sass_model/limits.txt, which --write renews. Prints a table of registers, shared memory, code
# size and of the blocks that fit a multiprocessor by these (docs/KERNELS.md keeps it). Needs python3,
# nvcc, cuobjdump and nvdisasm: in PATH, or by scripts/cuda-toolkit.sh.
set -eu
cd "$(dirname "$0")/.."
toolkit=target/cuda-toolkit/bin
[ -x "$toolkit/nvcc" ] && PATH=$PWD/$toolkit:$PATH
for tool in python3 nvcc cuobjdump nvdisasm; do
    command -v "$tool" >/dev/null || {
        echo "$0: no $tool; see scripts/cuda-toolkit.sh" >&2
        exit 1
    }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

write=
if [ "${1:-}" = --write ]; then
    write=--write
    shift
fi
compile() { # compile TARGET SOURCE NAME: into NAME.cubin and NAME.log
    nvcc -std=c++17 -arch="sm_$1" -Werror all-warnings -Xptxas -v,--warn-on-spills -Icuda \
        -cubin -o "$folder/$3.cubin" "$2" 2>"$folder/$3.log" || {
        cat "$folder/$3.log" >&2
        exit 1
    }
}
[ $# -gt 0 ] || set -- 80 86 89 90a
for target; do
    for source in cuda/*.cu cuda/sm*/*.cu; do
        # What only one architecture has is compiled for no other.
        case $source in cuda/sm*a/*) [ "cuda/sm$target" = "$(dirname "$source")" ] || continue ;; esac
        compile "$target" "$source" "$(basename "$source" .cu).sm_$target"
    done
done
# Wrappers of sm_90a, some of which no kernel uses yet: that each becomes the instruction it is named for.
case " $* " in
    *' 90a '*)
        # Not by the rules for kernels: one holds more than there are registers for.
        nvcc -std=c++17 -arch=sm_90a -Icuda -cubin -o "$folder/wrappers" cuda/ptx/sm90a.cu \
            2>"$folder/wrappers.txt" || {
            cat "$folder/wrappers.txt" >&2
            exit 1
        }
        cuobjdump -sass "$folder/wrappers" >"$folder/wrappers.txt"
        for instruction in UBLKCP.S.G UBLKCP.S.G.MULTICAST UBLKCP.G.S UBLKPF UTMALDG.2D UTMALDG.4D \
            UTMALDG.4D.IM2COL UTMALDG.4D.IM2COL.MULTICAST UTMASTG.2D UTMASTG.4D UTMACCTL.PF STSM.16.MT88.4 \
            LDSM.16.MT88.4 USETMAXREG.TRY_ALLOC USETMAXREG.DEALLOC ELECT STAS HGMMA IGMMA NANOSLEEP; do
            grep -qF "$instruction" "$folder/wrappers.txt" || {
                echo "$0: no wrapper of cuda/ptx became $instruction" >&2
                exit 1
            }
        done
        ;;
esac
# Kernels that ptxas is known to warn of, apart from the others.
compile 90a scripts/sass_model/warned.ptx warned
rm "$folder/warned.cubin"
# shellcheck disable=SC2086 # nothing or one word
python3 scripts/sass_model gate "$folder" --nvcc "$(nvcc --version | sed -n 's/.*, V//p')" \
    --warned "$folder/warned.log" $write
