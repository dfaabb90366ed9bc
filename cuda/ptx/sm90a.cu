// Every wrapper of this folder that sm_90a alone has, called once: that its PTX assembles, and to
// which instructions, is for scripts/cuda-gates.sh to see. No kernel of the library.

#include "barrier.cuh"
#include "bulk.cuh"
#include "cluster.cuh"
#include "ld_st.cuh"
#include "mma.cuh"
#include "wgmma.cuh"

namespace twinstream::kernels {

namespace {

template <unsigned LEN>
TWINSTREAM_DEVICE float multiply(uint64_t a, const uint32_t (&registers)[4], uint64_t b,
                                 bool adds) {
    float sum[LEN] = {};
    ptx::wgmma_fence();
    ptx::wgmma_f16(sum, a, b, adds);
    ptx::wgmma_f16(sum, registers, b, true);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    float total = 0;
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < LEN; ++i) total += sum[i];
    return total;
}

template <unsigned LEN>
TWINSTREAM_DEVICE int32_t multiply_i8(uint64_t a, const uint32_t (&registers)[4], uint64_t b,
                                      bool adds) {
    int32_t sum[LEN] = {};
    ptx::wgmma_fence();
    ptx::wgmma_s8u8(sum, a, b, adds);
    ptx::wgmma_s8u8(sum, registers, b, true);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    int32_t total = 0;
    TWINSTREAM_UNROLL
    for (unsigned i = 0; i < LEN; ++i) total += sum[i];
    return total;
}

} // namespace

struct Sm90aParams {
    TensorMap plane, volume;
    void *memory;
    uint32_t *counter;
    float *results;
    uint32_t adds;
};

TWINSTREAM_KERNEL(copies, Sm90aParams, 384, 1) {
    TWINSTREAM_SHARED(shared);
    const uint32_t at = ptx::shared_address(shared), barrier = at + 65536;
    if (threadIdx.x == 0) {
        ptx::barrier_init(barrier, 1);
        ptx::fence_barrier_init();
    }
    ptx::cluster_arrive();
    ptx::cluster_wait();
    if (threadIdx.x >= 256) {
        ptx::decrease_registers<40>();
        if (threadIdx.x < 288 && ptx::elect()) {
            const int32_t first[4] = {0, -1, -1, 0};
            const uint16_t tap[2] = {1, 2};
            ptx::barrier_arrive_expect(barrier, 65536);
            ptx::prefetch_bulk(p.memory, 4096);
            ptx::prefetch_map(p.plane);
            ptx::copy_bulk(at, p.memory, 4096, barrier);
            ptx::copy_bulk_to_all(at, p.memory, 4096, barrier, 3);
            ptx::copy_tensor_2d(at, p.plane, 0, 0, barrier);
            ptx::copy_tensor_4d(at, p.volume, first, barrier);
            ptx::copy_im2col(at, p.volume, first, tap, barrier);
            ptx::copy_im2col_to_all(at, p.volume, first, tap, barrier, 3);
        }
    } else {
        ptx::increase_registers<232>();
        ptx::barrier_wait<ptx::Arrivals::cluster>(barrier, 0);
        uint32_t values[4];
        ptx::ldmatrix_x4_transposed(values, at + threadIdx.x % 32 * 16);
        ptx::store_matrix_x4_transposed(at + threadIdx.x % 32 * 16, values);
        uint32_t two[2], one[1];
        ptx::ldmatrix_transposed(two, at + threadIdx.x % 16 * 16);
        ptx::store_matrix_transposed(at + threadIdx.x % 16 * 16, two);
        ptx::ldmatrix_transposed(one, at + threadIdx.x % 8 * 16);
        ptx::store_matrix_transposed(at + threadIdx.x % 8 * 16, one);
        ptx::fence_proxy_async_shared();
        ptx::barrier_sync(1, 256);
        if (threadIdx.x == 0) {
            const int32_t first[4] = {0, 0, 0, 0};
            ptx::store_bulk(p.memory, at, 4096);
            ptx::store_tensor_2d(p.plane, 0, 0, at);
            ptx::store_tensor_4d(p.volume, first, at);
            ptx::bulk_commit();
            ptx::bulk_wait_read<0>();
            ptx::bulk_wait<0>();
            ptx::add_release(p.counter, 1);
            while (ptx::load_acquire(p.counter) < ptx::cluster_len()) ptx::sleep_ns(20);
            ptx::fence_proxy_async_global();
            const uint32_t other = ptx::cluster_rank() ^ 1;
            ptx::store_async(ptx::map_shared(at, other), values, ptx::map_shared(barrier, other));
            ptx::barrier_arrive_at(ptx::map_shared(barrier, other));
            ptx::barrier_arrive_relaxed_at(ptx::map_shared(barrier, other));
            ptx::barrier_arrive(barrier);
        }
    }
    ptx::cluster_arrive_relaxed();
    ptx::cluster_wait();
}

TWINSTREAM_KERNEL(products, Sm90aParams, 128, 1) {
    TWINSTREAM_SHARED(shared);
    const uint32_t at = ptx::shared_address(shared);
    const bool adds = p.adds != 0;
    const uint32_t registers[4] = {p.adds, threadIdx.x, p.adds, threadIdx.x};
    const uint64_t a = ptx::describe_rows_128(at), b = ptx::describe_rows_64(at + 8192);
    const uint64_t plain = ptx::describe_operand(at, ptx::OperandLayout::plain, 16, 128);
    p.results[threadIdx.x] =
        multiply<4>(a, registers, plain, adds) + multiply<28>(a, registers, plain, adds) +
        multiply<32>(a, registers, b, adds) + multiply<56>(a, registers, b, adds) +
        multiply<60>(a, registers, b, adds) + multiply<64>(a, registers, b, adds) +
        multiply<96>(a, registers, b, adds) + multiply<128>(a, registers, b, adds);
    const int32_t sum =
        multiply_i8<4>(a, registers, plain, adds) + multiply_i8<32>(a, registers, b, adds) +
        multiply_i8<56>(a, registers, b, adds) + multiply_i8<64>(a, registers, b, adds) +
        multiply_i8<96>(a, registers, b, adds) + multiply_i8<104>(a, registers, b, adds) +
        multiply_i8<112>(a, registers, b, adds) + multiply_i8<128>(a, registers, b, adds);
    p.results[threadIdx.x + 128] = static_cast<float>(sum);
}

} // namespace twinstream::kernels
