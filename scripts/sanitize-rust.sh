#!/bin/sh
# Runs ring, engine and the CPU's own kernels, Rust and C++ together, under a sanitizer: scripts/sanitize-rust.sh [address|thread]
#
# `address` needs a stable Rust alone. `thread` needs the standard library's source (`rustup component
# add rust-src`): one that is not instrumented hides its locks, and every use of them looks like a race.
# Leaks are not looked for: a device that stalled is left alone on purpose, with its memory. An allocation
# that cannot be had fails as it does elsewhere: what is refused for it is tested.
set -eu
cd "$(dirname "$0")/.."
sanitizer=${1:-address}
case $sanitizer in
    address) build_std='' ;;
    thread) build_std='-Zbuild-std' ;;
    *)
        echo "$0: $sanitizer is neither address nor thread" >&2
        exit 2
        ;;
esac
if [ -n "$build_std" ] && ! [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo "$0: thread needs the source of the standard library: rustup component add rust-src" >&2
    exit 1
fi
# The flags of sanitizers are open to stable compilers under this name.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=$sanitizer" CXXFLAGS="-fsanitize=$sanitizer" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
# Named, the target keeps the flags from build scripts and procedural macros. What decodes JPEG for other
# tests is compiled, but not run.
sanitized() {
    cargo test --locked $build_std --package twinstream --no-default-features \
        --config profile.dev.package.libjpeg-turbo-rs.opt-level=0 \
        --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir "target/sanitize-$sanitizer" "$@"
}
sanitized --test ring --test engine -- --skip stress::
sanitized --lib -- cpu::dot
