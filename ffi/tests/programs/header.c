/* The header by itself: included twice and in two translation units, with the layout, values and
 * version that the library has. */
#include "twinstream.h"
#include "twinstream.h"

#include "check.h"

#include <stddef.h>

#ifdef __cplusplus
#define ASSERT static_assert
#else
#define ASSERT _Static_assert
#endif

#define AT(type, field, offset) ASSERT(offsetof(type, field) == (offset), #type "." #field)

ASSERT(sizeof(twinstream_options) == 152, "options");
AT(twinstream_options, abi_version, 4);
AT(twinstream_options, backend, 8);
AT(twinstream_options, memory_weakest, 12);
AT(twinstream_options, weights_path, 16);
AT(twinstream_options, config_path, 24);
AT(twinstream_options, policy, 32);
AT(twinstream_options, cpu, 40);
AT(twinstream_options, cuda, 48);
AT(twinstream_options, null, 56);
AT(twinstream_options, height, 64);
AT(twinstream_options, width, 68);
AT(twinstream_options, top_k, 72);
AT(twinstream_options, core, 76);
AT(twinstream_options, slot_len, 80);
AT(twinstream_options, batch_len_max, 88);
AT(twinstream_options, latency_bound_ns, 96);
AT(twinstream_options, spin_ns, 104);
AT(twinstream_options, stall_timeout_ns, 112);
AT(twinstream_options, trace_len, 120);
AT(twinstream_options, precision, 128);
AT(twinstream_options, cache_bytes, 136);
AT(twinstream_options, backends, 144);
ASSERT(sizeof(twinstream_cpu_options) == 8, "CPU options");
AT(twinstream_cpu_options, thread_len, 4);
ASSERT(sizeof(twinstream_cuda_options) == 24, "CUDA options");
AT(twinstream_cuda_options, device, 8);
AT(twinstream_cuda_options, tuning_path, 16);
ASSERT(sizeof(twinstream_null_options) == 24, "null options");
AT(twinstream_null_options, image_bytes, 8);
AT(twinstream_null_options, result_len, 16);
ASSERT(sizeof(twinstream_request_options) == 40, "request options");
AT(twinstream_request_options, priority, 4);
AT(twinstream_request_options, deadline_after_ns, 8);
AT(twinstream_request_options, notice, 16);
AT(twinstream_request_options, reserved, 20);
AT(twinstream_request_options, callback, 24);
AT(twinstream_request_options, user_data, 32);
ASSERT(sizeof(twinstream_geometry) == 40, "geometry");
AT(twinstream_geometry, height, 4);
AT(twinstream_geometry, width, 8);
AT(twinstream_geometry, image_bytes, 16);
AT(twinstream_geometry, result_len, 24);
AT(twinstream_geometry, batch_len_max, 32);
ASSERT(sizeof(twinstream_timing) == 104, "timing");
AT(twinstream_timing, reason, 4);
AT(twinstream_timing, arrival_ns, 8);
AT(twinstream_timing, upload_started_ns, 16);
AT(twinstream_timing, compute_ended_ns, 40);
AT(twinstream_timing, announced_ns, 64);
AT(twinstream_timing, batch, 72);
AT(twinstream_timing, computed_ns, 96);
ASSERT(sizeof(twinstream_stats) == 424, "stats");
AT(twinstream_stats, accepted, 8);
AT(twinstream_stats, completed, 16);
AT(twinstream_stats, rejected, 24);
AT(twinstream_stats, expired, 32);
AT(twinstream_stats, cancelled, 40);
AT(twinstream_stats, failed, 48);
AT(twinstream_stats, device_lost, 56);
AT(twinstream_stats, shut_down, 64);
AT(twinstream_stats, alive, 72);
AT(twinstream_stats, waiting, 80);
AT(twinstream_stats, arrival_rate_hz, 88);
AT(twinstream_stats, upload_fixed_ns, 96);
AT(twinstream_stats, compute_fixed_ns, 112);
AT(twinstream_stats, download_per_image_ns, 136);
AT(twinstream_stats, batches_full, 144);
AT(twinstream_stats, batches_flush, 176);
AT(twinstream_stats, batch_len_mean, 184);
AT(twinstream_stats, latency_mean_ns, 200);
AT(twinstream_stats, latency_max_ns, 232);
AT(twinstream_stats, downloaded_bytes, 248);
AT(twinstream_stats, late, 256);
AT(twinstream_stats, refused_full, 264);
AT(twinstream_stats, refused_device_lost, 288);
AT(twinstream_stats, slots_in_use, 296);
AT(twinstream_stats, waiting_mean_ns, 312);
AT(twinstream_stats, notifying_p99_ns, 352);
AT(twinstream_stats, callback_ns, 360);
AT(twinstream_stats, cache_hits, 368);
AT(twinstream_stats, cache_is_on, 400);
AT(twinstream_stats, devices_lost, 416);

uint32_t other_unit_abi_version(void);

int main(void) {
    CHECK(twinstream_abi_version() == TWINSTREAM_ABI_VERSION);
    CHECK(other_unit_abi_version() == TWINSTREAM_ABI_VERSION);
    CHECK(strchr(twinstream_version(), '.') != NULL);
    CHECK(strcmp(twinstream_last_error(), "") == 0);
    CHECK(strcmp(twinstream_status_name(TWINSTREAM_OK), "TWINSTREAM_OK") == 0);
    CHECK(strcmp(twinstream_status_name(TWINSTREAM_PANIC), "TWINSTREAM_PANIC") == 0);
    CHECK(strcmp(twinstream_status_name(-1), "unknown status") == 0);
    puts("header: ok");
    return 0;
}
