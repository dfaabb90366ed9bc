// Convolutions as conv_64x64 computes them, most of them with a fault put in: what the proof of
// kernels must find. For tests, on the emulated device alone.

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "../../sm80/conv_block.cuh"

namespace twinstream::kernels {

namespace {

using FaultyTile = Tile<f16, 64, 64, 2, 2, 4>;

void convolve(const twinstream_conv_params &p) {
    TWINSTREAM_SHARED(shared);
    ConvBlock<FaultyTile>(p, shared).run();
}

// One thread of the launch, behind all that its block wrote.
bool is_last_of_first_block() {
    __syncthreads();
    return blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0;
}

uint16_t *output_of(const twinstream_conv_params &p) { return global<uint16_t>(p.output); }

} // namespace

TWINSTREAM_KERNEL(faulty_right, twinstream_conv_params, FaultyTile::THREADS, 1) { convolve(p); }

// The last bit of one value.
TWINSTREAM_KERNEL(faulty_value, twinstream_conv_params, FaultyTile::THREADS, 1) {
    convolve(p);
    if (is_last_of_first_block()) output_of(p)[17] ^= 1;
}

// A value behind those of all images.
TWINSTREAM_KERNEL(faulty_beyond, twinstream_conv_params, FaultyTile::THREADS, 1) {
    convolve(p);
    if (is_last_of_first_block())
        output_of(p)[uint64_t{gridDim.x} * FaultyTile::M * p.output_channels] = 0x3555;
}

// The last bit of one value, every seventh time.
TWINSTREAM_KERNEL(faulty_unsteady, twinstream_conv_params, FaultyTile::THREADS, 1) {
    static std::atomic<unsigned> launch_len;
    convolve(p);
    if (is_last_of_first_block() && ++launch_len % 7 == 0) output_of(p)[17] ^= 1;
}

// No number, where an image is alone.
TWINSTREAM_KERNEL(faulty_alone, twinstream_conv_params, FaultyTile::THREADS, 1) {
    convolve(p);
    if (is_last_of_first_block() && global<const twinstream_batch>(p.batch)->len == 1)
        output_of(p)[0] = 0x7e00;
}

// The last bit of one value, where a value was read before the kernel ahead had made it.
TWINSTREAM_KERNEL(faulty_early, twinstream_conv_params, FaultyTile::THREADS, 1) {
    const volatile uint16_t *const input = global<const volatile uint16_t>(p.input);
    const uint16_t before = *input;
    convolve(p);
    if (is_last_of_first_block() && *input != before) output_of(p)[17] ^= 1;
}

// As a wait does that gives up.
TWINSTREAM_KERNEL(faulty_trap, twinstream_conv_params, FaultyTile::THREADS, 1) {
    convolve(p);
    if (is_last_of_first_block()) emulator::trap();
}

// The process ends, as a driver may end it.
TWINSTREAM_KERNEL(faulty_crash, twinstream_conv_params, FaultyTile::THREADS, 1) {
    convolve(p);
    if (is_last_of_first_block()) std::raise(SIGKILL);
}

TWINSTREAM_KERNEL(faulty_hang, twinstream_conv_params, FaultyTile::THREADS, 1) {
    convolve(p);
    const bool hangs = is_last_of_first_block();
    while (hangs) std::this_thread::sleep_for(std::chrono::seconds(1));
}

} // namespace twinstream::kernels
