// What the tests of the stems of both types share: sizes, parameters, the launch.
#pragma once

#include "check.hpp"

namespace twinstream::tests {

inline unsigned halved(unsigned side) { return (side - 1) / 2 + 1; }

// Without addresses and normalisation.
inline twinstream_stem_params stem_sizes(unsigned height, unsigned width) {
    twinstream_stem_params p{};
    // With a gap, and not a multiple of the pixel's size.
    p.image_bytes = std::size_t{height} * width * 3 + 7;
    p.height = height;
    p.width = width;
    p.conv_height = halved(height);
    p.conv_width = halved(width);
    p.pooled_height = halved(p.conv_height);
    p.pooled_width = halved(p.conv_width);
    return p;
}

inline void launch_stem(const char *name, unsigned bucket, unsigned shared_bytes,
                        const twinstream_stem_params &p, const Batch &batch,
                        const std::string &what) {
    const unsigned across = (p.pooled_width - 1) / TWINSTREAM_STEM_POOLED_WIDTH + 1;
    const unsigned down = (p.pooled_height - 1) / TWINSTREAM_STEM_POOLED_HEIGHT + 1;
    launch(name, across * down, bucket, 1, TWINSTREAM_STEM_THREADS, shared_bytes, p, batch, what);
}

} // namespace twinstream::tests
