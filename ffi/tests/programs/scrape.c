/* Several engines in one scrape, and refusals counted by reason. */
#include "check.h"

static const uint8_t image[IMAGE_BYTES] = {0};
static char text[1 << 17];

static int count(const char *part) {
    const char *at = text;
    int len = 0;
    while ((at = strstr(at, part)) != NULL) at++, len++;
    return len;
}

int main(void) {
    twinstream_engine *engines[2];
    const char *names[2] = {NULL, "second"}, *same[2] = {"a", "a"};
    twinstream_request requests[4], request;
    twinstream_stats stats;
    uint8_t *place;
    size_t needed_bytes;
    int i;

    engines[0] = null_engine(4);
    engines[1] = null_engine(4);
    for (i = 0; i < 4; i++) CHECK_OK(twinstream_lease(engines[1], &requests[i], &place));
    CHECK_STATUS(twinstream_lease(engines[1], &request, &place), TWINSTREAM_FULL);
    CHECK_STATUS(twinstream_submit(engines[1], image, 1, NULL, &request), TWINSTREAM_IMAGE_SIZE);
    CHECK_OK(twinstream_engine_drain(engines[1], TWINSTREAM_FOREVER));
    for (i = 0; i < 4; i++) {
        CHECK_STATUS(twinstream_commit(engines[1], requests[i], NULL), TWINSTREAM_SHUT_DOWN);
    }

    memset(&stats, 0xff, sizeof stats);
    stats.struct_size = sizeof stats;
    CHECK_OK(twinstream_engine_stats(engines[1], &stats));
    CHECK(stats.accepted == 0 && stats.refused_full == 1 && stats.refused_size == 1);
    CHECK(stats.refused_shut_down == 4 && stats.refused_device_lost == 0 && stats.late == 0);
    CHECK(stats.slot_len == 4 && stats.slots_in_use == 0);
    /* Of a program that was compiled with the first version: nothing beyond it is written. */
    stats.struct_size = 256;
    stats.late = 77;
    CHECK_OK(twinstream_engine_stats(engines[1], &stats));
    CHECK(stats.late == 77);

    CHECK_OK(twinstream_engines_prometheus(engines, names, 2, text, sizeof text, &needed_bytes));
    CHECK(needed_bytes == strlen(text) + 1);
    CHECK(count("# TYPE twinstream_latency_seconds histogram\n") == 1);
    CHECK(count("twinstream_requests_alive{engine=\"0\"} 0\n") == 1);
    CHECK(count("twinstream_slots{engine=\"second\"} 4\n") == 1);
    CHECK(count("twinstream_requests_refused_total{engine=\"second\",reason=\"full\"} 1\n") == 1);
    CHECK(count("twinstream_state{engine=\"second\",state=\"shut_down\"} 1\n") == 1);
    CHECK(count("twinstream_build_info{") == 1);
    CHECK_OK(twinstream_engines_prometheus(engines, NULL, 2, text, sizeof text, &needed_bytes));
    CHECK(count("twinstream_slots{engine=\"1\"} 4\n") == 1);
    CHECK_STATUS(twinstream_engines_prometheus(engines, same, 2, NULL, 0, &needed_bytes),
                 TWINSTREAM_ARGUMENT);
    CHECK_STATUS(twinstream_engines_prometheus(NULL, NULL, 2, NULL, 0, &needed_bytes),
                 TWINSTREAM_NULL);
    for (i = 0; i < 2; i++) CHECK_OK(twinstream_engine_destroy(engines[i]));
    CHECK_STATUS(twinstream_engines_prometheus(engines, NULL, 2, NULL, 0, &needed_bytes),
                 TWINSTREAM_STALE);
    puts("scrape: ok");
    return 0;
}
