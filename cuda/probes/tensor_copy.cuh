// Tensor maps of the driver, copies by them, and what such a copy must bring: what the probes of
// TMA share. Tensors have four dimensions of f16, innermost first; a copy fills 8 KiB.
#pragma once

#include <cudaTypedefs.h>

#include <cuda/ptx>

#include <cstdint>

#include "../ptx/ld_st.cuh"
#include "probe.hpp"

namespace twinstream::probes {

constexpr unsigned RANK = 4;
constexpr unsigned COPY_BYTES = 8192;
constexpr unsigned COPY_LEN = COPY_BYTES / 2;
constexpr unsigned COPY_THREADS = 128;
// Largest repeat of a swizzle. Dynamic shared memory may begin anywhere within one.
constexpr unsigned COPY_ALIGNMENT = 1024;
constexpr unsigned COPY_SHARED_BYTES = COPY_BYTES + COPY_ALIGNMENT;
// A copy takes a few microseconds; this many looks at its barrier take tenths of a second.
constexpr unsigned TRIES_MAX = 1 << 22;

struct Coordinates {
    int32_t at[RANK];
};

// Distance of the tap that im2col copies read, along a row and from row to row.
struct Tap {
    uint16_t x;
    uint16_t y;
};

struct Tensor {
    const uint16_t *address;
    cuuint64_t dimensions[RANK];
    // Of the dimensions behind the first, whose elements are neighbours.
    cuuint64_t strides_bytes[RANK - 1];
};

// A function of the driver by its name, as it was in CUDA 12.0; spares linking the driver.
template <class Function>
Function driver_function(const char *name) {
    void *function = nullptr;
    cudaDriverEntryPointQueryResult found;
    TWINSTREAM_CHECK(
        cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess) {
        std::fprintf(stderr, "the driver has no %s\n", name);
        std::exit(1);
    }
    return reinterpret_cast<Function>(function);
}

inline CUresult encode_tiled(CUtensorMap *map, const Tensor &tensor, const cuuint32_t (&box)[RANK],
                             const cuuint32_t (&steps)[RANK], CUtensorMapSwizzle swizzle) {
    static const auto encode =
        driver_function<PFN_cuTensorMapEncodeTiled_v12000>("cuTensorMapEncodeTiled");
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, RANK,
                  const_cast<uint16_t *>(tensor.address), tensor.dimensions, tensor.strides_bytes,
                  box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

// Pixels of a 3x3 convolution with padding 1: of an image they begin one before its first and end
// one before its last, and the tap's distance is added.
inline CUresult encode_im2col(CUtensorMap *map, const Tensor &tensor, cuuint32_t channels,
                              cuuint32_t pixels, CUtensorMapSwizzle swizzle) {
    static const auto encode =
        driver_function<PFN_cuTensorMapEncodeIm2col_v12000>("cuTensorMapEncodeIm2col");
    const int corner[RANK - 2] = {-1, -1};
    const cuuint32_t steps[RANK] = {1, 1, 1, 1};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, RANK,
                  const_cast<uint16_t *>(tensor.address), tensor.dimensions, tensor.strides_bytes,
                  corner, corner, channels, pixels, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

// Whether all bytes came before the tries were used up.
__device__ inline bool has_arrived(uint64_t *barrier) {
#if __CUDA_ARCH__ >= 900
    TWINSTREAM_ROLL
    for (unsigned i = 0; i < TRIES_MAX; ++i)
        if (cuda::ptx::mbarrier_test_wait_parity(barrier, 0u)) return true;
#endif
    return false;
}

template <bool IS_IM2COL>
__device__ void start_copy(void *to, const CUtensorMap *map, const Coordinates &c, Tap tap,
                           uint64_t *barrier) {
#if __CUDA_ARCH__ >= 900
    if constexpr (IS_IM2COL) {
        // libcu++ has no im2col.
        asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col"
                     ".mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};"
                     :
                     : "r"(ptx::shared_address(to)), "l"(map), "r"(c.at[0]), "r"(c.at[1]),
                       "r"(c.at[2]), "r"(c.at[3]), "r"(ptx::shared_address(barrier)), "h"(tap.x),
                       "h"(tap.y)
                     : "memory");
    } else {
        cuda::ptx::cp_async_bulk_tensor(cuda::ptx::space_cluster, cuda::ptx::space_global, to, map,
                                        c.at, barrier);
    }
#endif
}

// Block b copies from `first` plus b times `step` and leaves what came, as it lies in shared
// memory. Elements that nothing wrote are 0xffff.
template <bool IS_IM2COL>
__global__ void __launch_bounds__(COPY_THREADS)
    copy(const __grid_constant__ CUtensorMap map, Coordinates first, Coordinates step, Tap tap,
         uint4 *copied, uint32_t *is_late) {
#if __CUDA_ARCH__ >= 900
    TWINSTREAM_SHARED(shared);
    __shared__ uint64_t barrier;
    const uint32_t beyond = ptx::shared_address(shared) % COPY_ALIGNMENT;
    uint4 *const to =
        reinterpret_cast<uint4 *>(shared + (COPY_ALIGNMENT - beyond) % COPY_ALIGNMENT);
    constexpr unsigned CHUNKS = COPY_BYTES / CHUNK_BYTES;
    for (unsigned i = threadIdx.x; i < CHUNKS; i += COPY_THREADS)
        to[i] = make_uint4(~0u, ~0u, ~0u, ~0u);
    if (threadIdx.x == 0) cuda::ptx::mbarrier_init(&barrier, 1);
    // The copy sees barrier and memory through another proxy than these threads.
    cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
    __syncthreads();
    if (threadIdx.x == 0) {
        // Taken by reference, and a constant of the file has no place on the device.
        const uint32_t bytes = COPY_BYTES;
        Coordinates at;
        for (unsigned i = 0; i < RANK; ++i)
            at.at[i] = first.at[i] + static_cast<int32_t>(blockIdx.x) * step.at[i];
        cuda::ptx::mbarrier_arrive_expect_tx(cuda::ptx::sem_release, cuda::ptx::scope_cta,
                                             cuda::ptx::space_shared, &barrier, bytes);
        start_copy<IS_IM2COL>(to, &map, at, tap, &barrier);
    }
    if (!has_arrived(&barrier)) *is_late = 1;
    for (unsigned i = threadIdx.x; i < CHUNKS; i += COPY_THREADS)
        copied[blockIdx.x * CHUNKS + i] = to[i];
#endif
}

struct Copied {
    bool is_late;
    // COPY_LEN a block.
    std::vector<uint16_t> values;
};

template <bool IS_IM2COL>
Copied run_copy(const CUtensorMap &map, unsigned blocks, const Coordinates &first,
                const Coordinates &step, Tap tap) {
    Copied result{};
    result.values.resize(size_t{blocks} * COPY_LEN);
    uint4 *copied;
    uint32_t *is_late, late = 0;
    TWINSTREAM_CHECK(cudaMalloc(&copied, size_t{blocks} * COPY_BYTES));
    TWINSTREAM_CHECK(cudaMalloc(&is_late, sizeof *is_late));
    TWINSTREAM_CHECK(cudaMemset(is_late, 0, sizeof *is_late));
    copy<IS_IM2COL>
        <<<blocks, COPY_THREADS, COPY_SHARED_BYTES>>>(map, first, step, tap, copied, is_late);
    TWINSTREAM_CHECK(cudaGetLastError());
    TWINSTREAM_CHECK(cudaMemcpy(result.values.data(), copied, size_t{blocks} * COPY_BYTES,
                                cudaMemcpyDeviceToHost));
    TWINSTREAM_CHECK(cudaMemcpy(&late, is_late, sizeof late, cudaMemcpyDeviceToHost));
    TWINSTREAM_CHECK(cudaFree(copied));
    TWINSTREAM_CHECK(cudaFree(is_late));
    result.is_late = late != 0;
    return result;
}

// Values that tell their place in a tensor: positive, finite, and their neighbours differ.
inline std::vector<uint16_t> numbered(size_t len) {
    std::vector<uint16_t> values(len);
    for (size_t i = 0; i < len; ++i) values[i] = static_cast<uint16_t>(i % 31741 + 1);
    return values;
}

// The element of a tensor whose memory holds `values`; 0 outside.
inline uint16_t value_at(const std::vector<uint16_t> &values, const Tensor &tensor,
                         const Coordinates &c) {
    size_t at = 0;
    for (unsigned i = 0; i < RANK; ++i) {
        if (c.at[i] < 0 || static_cast<cuuint64_t>(c.at[i]) >= tensor.dimensions[i]) return 0;
        const size_t stride_bytes = i == 0 ? 2 : tensor.strides_bytes[i - 1];
        at += static_cast<size_t>(c.at[i]) * stride_bytes / 2;
    }
    return values[at];
}

// Where the element that is number `index` without a swizzle lies with it: bits 4 and up of its
// address are changed by bits 7 and up, 2 or 3 of them.
inline unsigned swizzled(unsigned index, CUtensorMapSwizzle swizzle) {
    const unsigned mask =
        swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? 7 : (swizzle == CU_TENSOR_MAP_SWIZZLE_64B ? 3 : 0);
    const unsigned address = index * 2;
    return (address ^ (address >> 7 & mask) << 4) / 2;
}

} // namespace twinstream::probes
